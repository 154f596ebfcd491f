"""Sites in the network: one grammar, with converters to the names in other tools."""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Generic, TypeVar

from theodolite.core.errors import UserError, unknown

T = TypeVar("T")

# Parts of a block in the order of a pass: what the stream holds or receives, and what lies inside attention and MLP
ALL_PARTS = (
    "resid_pre",
    "attn_in",
    "q",
    "k",
    "v",
    "z",
    "attn_out",
    "resid_mid",
    "mlp_in",
    "mlp_act",
    "mlp_out",
    "resid_post",
)
PARTS = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
INNER = tuple(part for part in ALL_PARTS if part not in PARTS)
_ENDS = ("embed", "final_norm", "logits")
_BLOCK = re.compile(r"blocks\.(\d+)\.(\w+)")
_TRANSFORMER_LENS = re.compile(r"blocks\.(\d+)\.((?:attn\.|mlp\.)?hook_(\w+))")
_INNER_HOOKS = {**{f"attn.hook_{part}": part for part in ("q", "k", "v", "z")}, "mlp.hook_post": "mlp_act"}
_BRIDGE = {"in": "resid_pre", "out": "resid_post"}  # a block's own hooks in TransformerLens 3
# Module paths that are the same site in every family: a block's two ends, the embedding and the final norm. A module
# inside a block is not: the MLP's output is `mlp_out` in Llama, but in Gemma 2 a norm lies behind it.
_MODULE = re.compile(
    r"(?:[a-z_.]+\.)?(?:model|language_model|transformer|gpt_neox)\.(?:layers|h)\.(\d+)(\.input|\.output)?"
)
_MODULE_ENDS = {
    **dict.fromkeys(["model.embed_tokens", "transformer.wte", "gpt_neox.embed_in"], "embed"),
    **dict.fromkeys(["model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm"], "final_norm"),
}


@total_ordering
@dataclass(frozen=True)
class Site:
    """A place in the network; sites sort in the order in which a forward pass reaches them.

    Wherever theodolite takes a site it also takes its name, or what TransformerLens and transformers call it.

    `embed` is the token embedding (before GPT-2's position embedding), `final_norm` the normalised stream that the
    unembedding reads. `logits` are what the model returns, after any soft cap; its width is the vocabulary's.
    `attn_out` and `mlp_out` are what is added to the stream, after Gemma's post-norms. Inside a
    block, `attn_in` and `mlp_in` are what attention and MLP read (after the norm), `q`, `k` and `v` what the
    projections give (all heads side by side, before any norm and rotation of them), `z` what the heads hand to the
    output projection, and `mlp_act` the neurons that the MLP's last projection reads.

    >>> site = Site.parse("blocks.12.resid_post")
    >>> site, str(site)
    (Site(block=12, part='resid_post'), 'blocks.12.resid_post')
    >>> [str(s) for s in sorted(map(Site.parse, ["logits", "final_norm", "blocks.1.mlp_out", "embed"]))]
    ['embed', 'blocks.1.mlp_out', 'final_norm', 'logits']
    """

    block: int | None
    part: str

    def __post_init__(self) -> None:
        known = _ENDS if self.block is None else ALL_PARTS
        if self.part not in known:
            raise unknown("site" if self.block is None else "part of a block", self.part, known)
        if self.block is not None and self.block < 0:
            raise UserError(f"block {self.block} is negative: blocks count from 0")

    @classmethod
    def parse(cls, text: "str | Site") -> "Site":
        """Return the site that a name stands for; a Site is returned as it is.

        Names of other tools are those that mean the same in every family of models. A module inside a block, such as
        `model.layers.3.mlp`, is not among them: `Model.site` knows the family and takes it.

        >>> [str(Site.parse(name)) for name in ("blocks.3.hook_resid_mid", "model.layers.3", "transformer.h.3.input")]
        ['blocks.3.resid_mid', 'blocks.3.resid_post', 'blocks.3.resid_pre']
        """
        if isinstance(text, Site):
            return text
        if text in _ENDS:
            return cls(None, text)
        if text == "hook_embed" or _TRANSFORMER_LENS.fullmatch(text):
            return cls.from_transformer_lens(text)
        if found := _BLOCK.fullmatch(text):
            return cls(int(found[1]), found[2])
        if found := _MODULE.fullmatch(text):
            return cls(int(found[1]), "resid_pre" if found[2] == ".input" else "resid_post")
        if end := _MODULE_ENDS.get(text.removesuffix(".output")):
            return cls(None, end)
        raise UserError(
            f"{text!r} is not a site: write 'embed', 'final_norm', 'logits' or 'blocks.N.PART', PART one of "
            f"{', '.join(ALL_PARTS)}; the path of a module inside a block becomes a site by model.site(path)"
        )

    def __str__(self) -> str:
        return self.part if self.block is None else f"blocks.{self.block}.{self.part}"

    def __lt__(self, other: "Site") -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[float, int]:
        if self.block is None:
            return (-1, 0) if self.part == "embed" else (float("inf"), _ENDS.index(self.part))
        return self.block, ALL_PARTS.index(self.part)

    def check(self, n_blocks: int) -> "Site":
        """This site, or an error if the model has no such block."""
        if self.block is not None and self.block >= n_blocks:
            raise UserError(f"site {str(self)!r} does not exist: the model has blocks 0 to {n_blocks - 1}")
        return self

    def last_block(self, n_blocks: int) -> int:
        """Return the last block that runs for this site: -1 (none) for the embedding, all for final norm and logits."""
        if self.block is not None:
            return self.block
        return -1 if self.part == "embed" else n_blocks - 1

    def to_hidden_states(self, n_blocks: int) -> int:
        """Index into `output_hidden_states` of transformers, whose last entry is taken after the final norm.

        >>> Site.parse("blocks.3.resid_post").to_hidden_states(12), Site.parse("final_norm").to_hidden_states(12)
        (4, 12)
        """
        self.check(n_blocks)
        if self.part == "final_norm":
            return n_blocks
        index = {"resid_pre": self.block, "resid_post": (self.block or 0) + 1}.get(self.part)
        if index is None or index == n_blocks:
            raise UserError(f"transformers' hidden_states has no entry for {str(self)!r}: read the site itself")
        return index

    @classmethod
    def from_hidden_states(cls, index: int, n_blocks: int) -> "Site":
        """The site of an entry of `output_hidden_states`; negative indices count from the end.

        >>> [str(Site.from_hidden_states(i, 12)) for i in (0, 12, -2)]
        ['blocks.0.resid_pre', 'final_norm', 'blocks.10.resid_post']
        """
        if not -n_blocks - 1 <= index <= n_blocks:
            raise UserError(f"hidden_states index {index} is outside -{n_blocks + 1}..{n_blocks}")
        index %= n_blocks + 1
        if index == n_blocks:
            return cls(None, "final_norm")
        return cls(index - 1, "resid_post") if index else cls(0, "resid_pre")

    def to_transformer_lens(self) -> str:
        """The TransformerLens hook at which the same tensor passes.

        >>> Site.parse("blocks.7.resid_mid").to_transformer_lens()
        'blocks.7.hook_resid_mid'
        """
        if self.part == "logits":
            raise UserError("TransformerLens has no hook at 'logits': they are what its forward pass returns")
        if self.part == "final_norm":
            # ln_final.hook_normalized: after the weights in its LayerNorm, before them in its RMSNorm
            raise UserError("TransformerLens has no hook that equals 'final_norm' in every family")
        if self.part in ("attn_in", "mlp_in"):
            # hook_attn_in and hook_mlp_in are the stream before the norm; hook_normalized lacks an RMSNorm's weights
            raise UserError(f"TransformerLens has no hook that equals {self.part!r} in every family")
        inner = {part: hook for hook, part in _INNER_HOOKS.items()}
        hook = inner.get(self.part, f"hook_{self.part}")
        return "hook_embed" if self.block is None else f"blocks.{self.block}.{hook}"

    @classmethod
    def from_transformer_lens(cls, hook: str) -> "Site":
        """Return the site of a TransformerLens (or SAELens) hook name; of heads it has an axis more than our state."""
        if hook == "hook_embed":
            return cls(None, "embed")
        found = _TRANSFORMER_LENS.fullmatch(hook)
        if found and found[2] in _INNER_HOOKS:
            return cls(int(found[1]), _INNER_HOOKS[found[2]])
        part = _BRIDGE.get(found[3], found[3]) if found and "." not in found[2] else None
        if not found or part not in PARTS:
            raise UserError(f"TransformerLens hook {hook!r} has no site here: known parts are {', '.join(PARTS)}")
        return cls(int(found[1]), part)

    def to_control_vector(self) -> int:
        """The layer number of a repeng or llama.cpp control vector: both write after block N and call it N.

        llama.cpp refuses layer 0, so the output of the first block has no number there.
        """
        if self.part != "resid_post" or not self.block:
            raise UserError(f"a control vector acts at blocks.N.resid_post with N >= 1, not at {str(self)!r}")
        return self.block

    @classmethod
    def from_control_vector(cls, layer: int) -> "Site":
        """The site of `direction.<layer>` in a control-vector file.

        >>> str(Site.from_control_vector(12))
        'blocks.12.resid_post'
        """
        if layer < 1:
            raise UserError(f"control vectors have layers from 1 on, not {layer}")
        return cls(layer, "resid_post")


class MissingSite(UserError, KeyError):
    """Nothing is held at the site that was asked for."""

    __str__ = UserError.__str__  # KeyError's would quote the message


class AtSites(dict[Site, T], Generic[T]):
    """Values by site; a site may be given by any name that `Site.parse` knows.

    >>> held = AtSites({Site.parse("blocks.1.resid_post"): 7})
    >>> held["blocks.1.resid_post"], held["model.layers.1"], "embed" in held
    (7, 7, False)
    """

    def __getitem__(self, site: Site | str) -> T:
        found = Site.parse(site)
        if not dict.__contains__(self, found):
            raise MissingSite(f"nothing was read at {str(found)!r}: held are {', '.join(map(str, self)) or 'no sites'}")
        return super().__getitem__(found)

    def __contains__(self, site: object) -> bool:
        return super().__contains__(Site.parse(site) if isinstance(site, str) else site)

    def get(self, site: Site | str, default: Any = None) -> Any:
        """Return the value at a site, or the default where nothing is held there."""
        return super().get(Site.parse(site), default)
