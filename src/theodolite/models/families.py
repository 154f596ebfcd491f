"""Modules that hold the sites in each family of transformers models."""

import re
import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Literal

from theodolite.core.errors import UserError, unknown
from theodolite.core.latents import distinct_indices
from theodolite.core.neurons import Neurons
from theodolite.core.site import Site

Side = Literal["input", "output"]


@dataclass(frozen=True)
class Family:
    """Module paths of one architecture: each part of a block is the input or the output of a module in it.

    `resid_mid` is the *input* of the norm before the MLP. `inner`: parts inside attention and MLP; where q, k and v
    share a projection, `fused` says how they lie in its output: one behind the other, or so within each head. `absent`
    says why a part does not exist. `removes_mean`: every norm subtracts the mean over d_model (LayerNorm), so that the
    stream's own mean changes nothing.
    """

    root: str
    embed: str
    blocks: str
    final_norm: str
    parts: Mapping[str, tuple[str, Side]]
    inner: Mapping[str, tuple[str, Side]]
    fused: Literal["", "whole", "by head"] = ""
    absent: Mapping[str, str] = field(default_factory=dict)
    removes_mean: bool = False

    def locate(self, site: Site) -> tuple[str, Side]:
        """Path of the module at which the site is seen, and on which side of it.

        >>> LLAMA.locate(Site.parse("blocks.3.attn_out"))
        ('model.layers.3.self_attn', 'output')
        """
        if site.part == "logits":
            return "", "output"  # of the whole model, so that a soft cap has acted
        if site.block is None:
            return f"{self.root}.{self.embed if site.part == 'embed' else self.final_norm}", "output"
        if site.part in self.absent:
            raise UserError(f"site {str(site)!r} does not exist in this model: {self.absent[site.part]}")
        module, side = self.parts[site.part] if site.part in self.parts else self.inner[site.part]
        return f"{self.root}.{self.blocks}.{site.block}" + (f".{module}" if module else ""), side

    def site(self, path: str, side: Side = "output") -> Site:
        """The site at a module path, with or without the root (hookpoints of sparsify leave it out).

        >>> str(LLAMA.site("layers.12")), str(LLAMA.site("model.layers.12.mlp"))
        ('blocks.12.resid_post', 'blocks.12.mlp_out')
        """
        path = path.removeprefix(f"{self.root}.")
        for end, name in (("embed", self.embed), ("final_norm", self.final_norm)):
            if (path, side) == (name, "output"):
                return Site(None, end)
        number, _, module = path.removeprefix(f"{self.blocks}.").partition(".")
        if path.startswith(f"{self.blocks}.") and number.isdigit():
            for part, place in self.parts.items():
                if place == (module, side) and part not in self.absent:
                    return Site(int(number), part)
        raise UserError(f"the {side} of module {path!r} is not a site")

    def parse(self, text: str | Site) -> Site:
        """Return the site that any of its names stands for, modules inside a block of this family included.

        >>> str(LLAMA.parse("model.layers.3.mlp")), str(GEMMA_2.parse("blocks.3.ln2_post.hook_out"))
        ('blocks.3.mlp_out', 'blocks.3.mlp_out')
        """
        try:
            return Site.parse(text)
        except UserError as unknown_everywhere:
            hook = str(text)
            try:
                return self.named(hook)
            except UserError as unknown_here:
                raise (unknown_here if "hook_" in hook else unknown_everywhere) from None

    def named(self, hook: str) -> Site:
        """The site of a hook as SAELens, TransformerLens (2 and 3) or transformers call it.

        TransformerLens 3 hooks modules: what its `attn` and `mlp` give is what the stream receives only in families
        without norms behind them; `hook_attn_out` and `hook_mlp_out` are that in all.

        >>> names = ["blocks.5.hook_out", "blocks.5.mlp.hook_out", "blocks.5.hook_mlp_out", "model.layers.5.output"]
        >>> [str(LLAMA.named(name)) for name in names]
        ['blocks.5.resid_post', 'blocks.5.mlp_out', 'blocks.5.mlp_out', 'blocks.5.resid_post']
        """
        found = self._of_transformer_lens(hook)
        if found is None:
            path, side = hook, "output"
            for end in ("output", "input"):
                if path.endswith(f".{end}"):
                    path, side = path.removesuffix(f".{end}"), end
            for wrapper in _WRAPPERS:
                path = path.removeprefix(wrapper)
            found = self.site(path, side)  # type: ignore[arg-type]
        if found.part in self.absent:
            raise UserError(f"site {str(found)!r} does not exist in this model: {self.absent[found.part]}")
        return found

    def _of_transformer_lens(self, hook: str) -> Site | None:
        """The site of a TransformerLens hook, None for a name that is none."""
        if hook in ("hook_embed", "embed.hook_out"):
            return Site(None, "embed")
        if not (split := _HOOK.fullmatch(hook)):
            return None
        block, name = int(split[1]), split[2]
        if name.removeprefix("hook_") in self.parts:
            return Site(block, name.removeprefix("hook_"))
        own = "mlp" if self.parts["mlp_out"][0] == "mlp" else "ln2_post"  # the module whose output the stream receives
        attention = "attn" if own == "mlp" else "ln1_post"
        known = {"hook_in": "resid_pre", "hook_out": "resid_post", "ln2.hook_in": "resid_mid"}
        known |= {f"{attention}.hook_out": "attn_out", f"{own}.hook_out": "mlp_out"}
        if name not in known:
            raise UserError(f"TransformerLens hook {hook!r} is not a site: nothing is written to the stream there")
        return Site(block, known[name])


_HOOK = re.compile(r"blocks\.(\d+)\.((?:\w+\.)?hook_\w+)")
# before the module paths of a model that a wrapper holds: a part of a multimodal one, an adapter's base
_WRAPPERS = ("base_model.model.", "model.language_model.", "language_model.", "_orig_mod.")


def _parts(attention: str, mlp: str, before_mlp: str, after: tuple[str, str] | None = None) -> dict:
    """Parts of a pre-norm block; `after` names the norms behind attention and MLP where a family has them."""
    attn_out, mlp_out = after or (attention, mlp)
    return {
        "resid_pre": ("", "input"),
        "attn_out": (attn_out, "output"),
        "resid_mid": (before_mlp, "input"),
        "mlp_out": (mlp_out, "output"),
        "resid_post": ("", "output"),
    }


def _inner(norms: tuple[str, str], attention: tuple[str, ...], last_of_mlp: str) -> dict[str, tuple[str, Side]]:
    """Parts inside a block: its two norms, the projections of q, k, v and of the heads, the MLP's last projection."""
    q, k, v, out = attention
    return {
        "attn_in": (norms[0], "output"),
        "q": (q, "output"),
        "k": (k, "output"),
        "v": (v, "output"),
        "z": (out, "input"),
        "mlp_in": (norms[1], "output"),
        "mlp_act": (last_of_mlp, "input"),
    }


_LLAMA_ATTENTION = tuple(f"self_attn.{name}_proj" for name in "qkvo")
LLAMA = Family(
    "model",
    "embed_tokens",
    "layers",
    "norm",
    _parts("self_attn", "mlp", "post_attention_layernorm"),
    _inner(("input_layernorm", "post_attention_layernorm"), _LLAMA_ATTENTION, "mlp.down_proj"),
)
# Gemma 2 and 3 normalise what attention and MLP add: the stream receives the norms' outputs
_GEMMA_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
GEMMA_2 = replace(
    LLAMA,
    parts=_parts("self_attn", "mlp", "pre_feedforward_layernorm", _GEMMA_NORMS),
    inner=_inner(("input_layernorm", "pre_feedforward_layernorm"), _LLAMA_ATTENTION, "mlp.down_proj"),
)
GPT_2 = Family(
    "transformer",
    "wte",
    "h",
    "ln_f",
    _parts("attn", "mlp", "ln_2"),
    _inner(("ln_1", "ln_2"), (*["attn.c_attn"] * 3, "attn.c_proj"), "mlp.c_proj"),
    "whole",
    removes_mean=True,
)
GPT_NEOX = Family(
    "gpt_neox",
    "embed_in",
    "layers",
    "final_layer_norm",
    _parts("attention", "mlp", "post_attention_layernorm"),
    _inner(
        ("input_layernorm", "post_attention_layernorm"),
        (*["attention.query_key_value"] * 3, "attention.dense"),
        "mlp.dense_4h_to_h",
    ),
    "by head",
    removes_mean=True,
)
_PARALLEL = {"resid_mid": "attention and MLP run in parallel (GPT-NeoX), nothing lies between them"}

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(["llama", "mistral", "smollm3", "qwen2", "qwen3", "gemma"], LLAMA),
    **dict.fromkeys(["gemma2", "gemma3_text"], GEMMA_2),
    "gpt2": GPT_2,
    "gpt_neox": GPT_NEOX,
}


# One lock per module for all networks on it; a module leaves the table with its last user
_locks: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_locks_lock = threading.Lock()


@dataclass(frozen=True)
class Network:
    """A transformers model together with the family that says where its sites lie."""

    module: Any
    family: Family

    @property
    def lock(self) -> threading.RLock:
        """Held while hooks are on the module: a pass in another thread would run them too.

        All networks on one module share it. A thread that holds it may take it again.
        """
        with _locks_lock:
            return _locks.setdefault(self.module, threading.RLock())

    @classmethod
    def of(cls, module: Any) -> "Network":
        """The network of a transformers causal language model."""
        return cls(module, family_of(module.config))

    @property
    def blocks(self) -> Any:
        """The list of the blocks, as the body goes through it."""
        return self.module.get_submodule(f"{self.family.root}.{self.family.blocks}")

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(self.module.config.get_text_config().num_hidden_layers)

    def locate(self, site: Site) -> tuple[Any, Side]:
        """The module at which a site is seen, and on which side of it."""
        path, side = self.family.locate(site)
        # half the time of `get_submodule`, which asks twice for each name; hooks are made anew in each step
        return (reduce(getattr, path.split("."), self.module) if path else self.module), side

    def columns(self, site: Site) -> list[int] | None:
        """Return the columns of its module's tensor that make up a site; None where all do."""
        if site.part not in "qkv" or not self.family.fused:
            return None
        heads, d_head, which = self._heads(site), self.d_head, "qkv".index(site.part)
        if self.family.fused == "whole":
            return list(range(which * heads * d_head, (which + 1) * heads * d_head))
        return [(3 * head + which) * d_head + i for head in range(heads) for i in range(d_head)]

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        config = self.module.config
        return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    def heads(self, site: Site | str, chosen: int | Iterable[int]) -> Neurons:
        """Return the slice of some attention heads at q, k, v or z as a basis; k and v count their own, fewer heads.

        >>> network.heads("blocks.3.z", [0, 5])  # doctest: +SKIP
        Neurons(128 of 576)
        """
        where = self.family.parse(site)
        if where.part not in ("q", "k", "v", "z"):
            raise UserError(f"site {str(where)!r} has no heads: q, k, v and z have")
        n, d_head = self._heads(where), self.d_head
        rows = [head * d_head + i for head in distinct_indices("head", chosen, n) for i in range(d_head)]
        return Neurons(rows, n * d_head)

    def _heads(self, site: Site) -> int:
        config = self.module.config
        shared = site.part in ("k", "v") and not self.family.fused  # by several query heads
        return int((getattr(config, "num_key_value_heads", None) if shared else None) or config.num_attention_heads)

    def unembed(self, states: Any) -> Any:
        """Logits of states (..., d) at `final_norm`."""
        logits = self.module.get_output_embeddings()(states)
        cap = getattr(self.module.config, "final_logit_softcapping", None)  # Gemma 2
        return logits if cap is None else (logits / cap).tanh() * cap


# multimodal models whose text decoder is loaded alone, with the place of its weights in their files
TEXT_ALONE = {"gemma3": {r"^(language_model\.model|model\.language_model)\.": "model."}}


def text_part(config: Any) -> Any:
    """The configuration of the text decoder of a multimodal model in `TEXT_ALONE`; any other as it is."""
    return config.get_text_config() if config.model_type in TEXT_ALONE else config


def family_of(config: Any) -> Family:
    """The family of a transformers configuration."""
    if config.model_type in TEXT_ALONE:
        raise UserError(
            f"this model of the architecture {config.model_type!r} reads images beside text: give its folder or its "
            "Hugging Face id instead of the loaded model, and its text decoder is loaded alone"
        )
    if config.model_type not in FAMILIES:
        raise unknown("model architecture", config.model_type, FAMILIES)
    family = FAMILIES[config.model_type]
    if config.model_type == "gpt_neox" and config.use_parallel_residual:
        return replace(family, absent=_PARALLEL)
    return family
