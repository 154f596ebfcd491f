"""A language model that is read, changed, scored and sampled at named sites."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import torch

from theodolite.core.activations import Activations
from theodolite.core.errors import UserError
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions, Role
from theodolite.core.several import several
from theodolite.core.site import ALL_PARTS, PARTS, AtSites, Site
from theodolite.models import preflight, scoring
from theodolite.models.constant import gradients
from theodolite.models.families import Network
from theodolite.models.generate import Decoding, Generation, generate, stop_ids
from theodolite.models.identity import WeightsState, fingerprint, identity
from theodolite.models.load import load
from theodolite.models.read import embed, read
from theodolite.models.run import Effects, Trace, context, run
from theodolite.models.scoring import Scored
from theodolite.models.sweep import select
from theodolite.models.tokenise import check_texts, clock, control_tokens_in, encode_texts, set_clock, template_around
from theodolite.models.tokens import (
    MAX_TOKENS,
    Encoding,
    Format,
    Tokens,
    Truncated,
    check_ids,
    encode,
    most_tokens,
    pad,
)

Texts = str | Sequence[str]  # a bare string is a list of one
Sites = Site | str | Iterable[Site | str]
Interventions = Intervention | Sequence[Intervention]


class Model:
    """A causal language model of transformers with its tokenizer.

    Everything goes through `run`: tokens in, states at sites out, changed on the way by interventions. `read`,
    `loss`, `logprobs` and `generate` are what one asks of it with texts; each takes `interventions=[...]`. Texts are
    a user's turn in a chat (`format="chat"`) or stand alone (`"raw"`). Where a list of texts, sites or interventions is
    expected, one alone is a list of one. More than `max_tokens` of a text are cut; where none are given it is 256, and
    a warning (`Truncated`) counts the texts that were longer.

    hash: what tells these weights from all others; taken from the module where none is given.

    A Model may be used from several threads: the networks of all Models on one `nn.Module` share one lock, so forward
    passes run one after the other and no pass meets the interventions of another thread. Edits of the weights are not
    covered by it: make them while no other thread uses the model.
    """

    def __init__(self, module: Any, tokenizer: Any, *, name: str = "", hash: str = "", quantisation: str = "") -> None:
        self.network = Network.of(module)
        self.tokenizer = tokenizer
        self.name, self.quantisation = name, quantisation
        self._weights = WeightsState(module, hash)
        if clock(tokenizer) is None:  # a chat template that prints the time prints one time for all texts
            set_clock(tokenizer, datetime.now().replace(microsecond=0))
        text = module.config.get_text_config()
        self.n_blocks: int = text.num_hidden_layers
        self.d_model: int = text.hidden_size
        self.parameters = sum(p.numel() for p in module.parameters())

    @classmethod
    def from_pretrained(
        cls,
        name: Any,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: Any = "auto",
        device_map: Any = None,
        token: str | None = None,
        tokenizer: Any = None,
    ) -> "Model":
        """A model by shipped name, hub id, folder or `.gguf` file, or a loaded transformers model and `tokenizer=`.

        >>> model = Model.from_pretrained("smollm2-135m-instruct")  # doctest: +SKIP
        """
        loaded = load(
            name, revision=revision, device=device, dtype=dtype, device_map=device_map, token=token, tokenizer=tokenizer
        )
        return cls(loaded.model, loaded.tokenizer, name=loaded.name, hash=loaded.hash, quantisation=loaded.quantisation)

    @property
    def device(self) -> torch.device:
        return self.network.module.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.module.dtype

    @property
    def hash(self) -> str:
        """Hash of the weights as they are now; it reads all of them at every call.

        Its value for weights as loaded is that of their files, whatever the dtype that they are computed in. A network
        with foreign hooks, in training mode or with parametrizations is refused: see `identity.check_untouched`.
        """
        return self._weights.hash()

    @property
    def identity(self) -> str:
        """Hash of everything that decides how this model reads a text; the key of all that is kept of it.

        sha256 over `fingerprint`: weights as they are now, structure, code of a pass, configuration, compute dtype,
        tokenizer, chat template.
        """
        return identity(self.fingerprint())

    def fingerprint(self) -> dict[str, str]:
        """The parts of `identity` by name, to say which of them differs."""
        return fingerprint(self.network.module, self.tokenizer, self.hash)

    @property
    def has_template(self) -> bool:
        """Return whether texts can be given in the format `chat`."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    @property
    def clock(self) -> datetime:
        """The moment that a chat template prints which prints the date; that of loading, until `set_clock`."""
        moment = clock(self.tokenizer)
        assert moment is not None, "set when the model was made"
        return moment

    def set_clock(self, moment: datetime) -> None:
        """Render texts as at another moment, such as that of a Run."""
        set_clock(self.tokenizer, moment)

    def template_around(self, format: Format = "chat") -> tuple[str, str]:
        """Return the text that the chat template puts around a user's, with the date of `clock` where it writes one.

        Two empty strings for a model without a chat template. One that leaves out, changes or repeats the text is an
        error, but for texts that are read raw, which it plays no part in.
        """
        try:
            return template_around(self.tokenizer) if self.has_template else ("", "")
        except UserError:
            if format == "raw":
                return "", ""
            raise

    def control_tokens_in(self, texts: Texts) -> list[tuple[str, ...]]:
        """The strings of control tokens that each text holds; they are read as text, never as that token."""
        return control_tokens_in(self.tokenizer, several(texts))

    def most_tokens(self, format: Format, max_tokens: int) -> int:
        """Return how many tokens of a text are read: `max_tokens`, or what the context leaves beside the template."""
        return most_tokens(self.tokenizer, format, max_tokens, context(self.network.module))

    def check_ids(self, encodings: Sequence[Encoding]) -> None:
        """Refuse token ids for which the model has no embedding (a tokenizer that is not its own)."""
        check_ids(encodings, self.network.module.get_input_embeddings().weight.shape[0], self.tokenizer)

    def site(self, site: Site | str) -> Site:
        """The site, by any name of it or the path of its module, or an error if this model lacks it."""
        found = self.network.family.parse(site).check(self.n_blocks)
        self.network.family.locate(found)
        return found

    def sites(self, *, inner: bool = False) -> list[Site]:
        """Every site of the residual stream, in the order of a forward pass; with `inner` those inside blocks too."""
        parts = [part for part in (ALL_PARTS if inner else PARTS) if part not in self.network.family.absent]
        blocks = [Site(n, part) for n in range(self.n_blocks) for part in parts]
        return [Site(None, "embed"), *blocks, Site(None, "final_norm")]

    def batch_tokens(self, sites: Iterable[Site] | None) -> int:
        """Return the number of tokens that fit in a batch up to the deepest of the sites, or with logits (None)."""
        deepest = max(sites).last_block(self.n_blocks) if sites is not None else None
        return preflight.batch_tokens(self.network.module, deepest_block=deepest)

    def tokens(self, texts: Texts, *, format: Format = "chat", max_tokens: int = MAX_TOKENS) -> Tokens:
        """Token ids with the role of every token, padded on the right; `truncated` says whose text was cut.

        Texts are cut at `max_tokens`, or where the model's context ends (`most_tokens`).
        """
        return self._pad(self._encode(texts, format, max_tokens))

    def run(
        self,
        tokens: Tokens,
        capture: Sites = (),
        interventions: Interventions = (),
        grad: bool = False,
        logits: bool = True,
    ) -> Trace:
        """One forward pass: states (n, t, d) at the captured sites, after interventions there, and logits.

        Without logits the pass ends at the deepest captured site. With `grad`, gradients reach the captured states and
        the tensors in the interventions; the weights count as constants, so that no parameter's `grad` is filled.
        """
        wanted = [self.site(site) for site in several(capture)]
        if not wanted and not logits:
            raise UserError("nothing to run for: capture a site or ask for logits")
        effects = self._effects(interventions)
        with gradients(self.network, grad):
            trace = run(self.network, tokens, wanted, effects, logits=logits)
        return replace(trace, changed=effects.check())

    def read(
        self,
        texts: Texts,
        sites: Sites,
        *,
        positions: Positions | str = "content",
        pooling: str | None = "mean",
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> AtSites[Activations]:
        """Rows at sites: one per text, pooled over the positions, or with `pooling=None` one per token; float32.

        `pooling="last"` is the last token of all, in a chat the template's, whatever the positions: as in a harvest.
        """
        wanted = [self.site(site) for site in several(sites)]
        return read(
            self,
            self._pad(self._encoded(texts, format, max_tokens)),
            wanted,
            Positions.parse(positions),
            pooling,
            self._effects(interventions),
            batch_tokens or self.batch_tokens(wanted),
        )

    def embed(self, texts: Texts, *, format: Format = "chat", max_tokens: int | None = None) -> np.ndarray:
        """Mean of the model's own input embeddings over the content of each text; (n, d) float32, no block runs."""
        return embed(self.network, self._pad(self._encoded(texts, format, max_tokens)))

    def loss(
        self,
        texts: Texts,
        *,
        positions: Positions | str = "content",
        interventions: Interventions = (),
        format: Format = "raw",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> Scored:
        """Score each text: log-probability of its tokens at the positions, given all before them."""
        tokens = self._pad(self._encoded(texts, format, max_tokens))
        targets = select(tokens, Positions.parse(positions))
        return self._score(tokens, targets, interventions, batch_tokens)

    def kl(
        self,
        texts: Texts,
        *,
        interventions: Interventions,
        positions: Positions | str = "content",
        format: Format = "raw",
        max_tokens: int | None = None,
    ) -> torch.Tensor:
        """Mean KL divergence, in nats, of the next-token predictions at the positions from those without interventions.

        The value can be differentiated by tensors inside the interventions: a dictionary is trained on it. All texts
        run in one pass, whose logits are held in memory, so give few at a time, or take `kl_per_text`.
        """
        tokens = self._pad(self._encoded(texts, format, max_tokens))
        targets = select(tokens, Positions.parse(positions))
        return scoring.divergence(self.network, tokens, targets, self._effects(interventions))

    def kl_per_text(
        self,
        texts: Texts,
        *,
        interventions: Interventions,
        positions: Positions | str = "content",
        format: Format = "raw",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> np.ndarray:
        """Mean KL divergence of each text in nats per token, where `kl` has that of all; (n) float64, no gradient."""
        tokens = self._pad(self._encoded(texts, format, max_tokens))
        targets, size = select(tokens, Positions.parse(positions)), batch_tokens or self.batch_tokens(None)
        return scoring.divergence_per_text(self.network, tokens, targets, self._effects(interventions), size)

    def logprobs(
        self,
        prompts: Texts,
        continuations: Texts,
        *,
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> Scored:
        """Log-probability of each continuation after its prompt (in a chat: as the answer).

        Continuations are tokenised by themselves, so a raw one normally begins with a space.
        """
        prompts, continuations = several(prompts), several(continuations)
        if len(prompts) != len(continuations):
            raise UserError(f"{len(prompts)} prompts and {len(continuations)} continuations: give one for each")
        check_texts(continuations, "continuation")
        answers = encode_texts(self.tokenizer, continuations, add_special_tokens=False)
        encodings = self._encoded(prompts, format, max_tokens)
        joined = [row.extend(ids, Role.GENERATED) for row, ids in zip(encodings, answers, strict=True)]
        self.check_ids(joined)
        tokens = self._pad(joined)
        return self._score(tokens, select(tokens, Positions("generated")), interventions, batch_tokens)

    def generate(
        self,
        prompts: Texts,
        *,
        max_new_tokens: int = 64,
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        batch_tokens: int | None = None,
    ) -> list[str]:
        """New text after each prompt, in the order of the prompts; greedy at temperature 0.

        An intervention on `prompt` positions acts while the prompt is read, on `generated` while the new tokens are;
        the first new token is predicted at `last`, the last token of the prompt.
        """
        how = Decoding(max_new_tokens, temperature, seed)
        found = self._generate(self._encoded(prompts, format, max_tokens), how, interventions, batch_tokens)
        return [one.text for one in found]

    def generations(
        self,
        prompts: Texts,
        how: Decoding | None = None,
        *,
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> list[Generation]:
        """New text after each prompt as in `generate`, with token ids, log-probabilities and why it stopped.

        `how` also takes a callback for each piece of text and one that cancels.
        """
        return self._generate(
            self._encoded(prompts, format, max_tokens), how or Decoding(), interventions, batch_tokens
        )

    def _encode(self, texts: Texts, format: Format, max_tokens: int) -> list[Encoding]:
        encodings = encode(self.tokenizer, several(texts), format, max_tokens, context(self.network.module))
        self.check_ids(encodings)
        return encodings

    def _encoded(self, texts: Texts, format: Format, max_tokens: int | None) -> list[Encoding]:
        """Texts as tokens; those cut at a limit that the caller did not give are counted in a warning."""
        asked = MAX_TOKENS if max_tokens is None else max_tokens
        encodings = self._encode(texts, format, asked)
        if cut := sum(row.truncated for row in encodings):
            most = self.most_tokens(format, asked)
            how_many = f"{cut} of {len(encodings)} texts have more than {most} tokens and were cut there"
            if most < asked:
                warnings.warn(f"{how_many}: the model's context leaves no more", Truncated, stacklevel=3)
            elif max_tokens is None:
                warnings.warn(f"{how_many}: give max_tokens= to say how many are read", Truncated, stacklevel=3)
        return encodings

    def _effects(self, interventions: Interventions) -> Effects:
        return Effects.checked(several(interventions), self.site)

    def _pad(self, encodings: Sequence[Encoding]) -> Tokens:
        return pad(encodings, self.tokenizer.pad_token_id or 0)

    def _score(self, tokens: Tokens, targets: Any, interventions: Interventions, batch_tokens: int | None) -> Scored:
        effects = self._effects(interventions)
        return scoring.score(self.network, tokens, targets, effects, batch_tokens or self.batch_tokens(None))

    def _generate(
        self, prompts: Sequence[Encoding], how: Decoding, interventions: Interventions, batch_tokens: int | None
    ) -> list[Generation]:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return generate(
            self.network,
            prompts,
            how,
            effects=self._effects(interventions),
            stop_ids=stop_ids(self.network.module, self.tokenizer),
            batch_tokens=batch_tokens or self.batch_tokens(None),
            decode=lambda ids: self.tokenizer.decode(ids, **options),
        )

    def __repr__(self) -> str:
        kept = f", {self.quantisation}" if self.quantisation else ""
        return f"Model({self.name!r}, {self.n_blocks} blocks, d_model {self.d_model}, {self.dtype}{kept})"
