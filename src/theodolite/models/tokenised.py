"""A network with its tokenizer: what tells it from others, where its sites are, and the tokens of a text."""

import warnings
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import torch

from theodolite.core.errors import UserError
from theodolite.core.language_model import Format, Texts
from theodolite.core.several import several
from theodolite.core.site import ALL_PARTS, PARTS, Site
from theodolite.models import preflight
from theodolite.models.families import Network
from theodolite.models.identity import WeightsState, fingerprint, identity
from theodolite.models.offload import entrance
from theodolite.models.run import context
from theodolite.models.tokenise import clock, control_tokens_in, set_clock, template_around
from theodolite.models.tokens import (
    MAX_TOKENS,
    Encoding,
    Tokens,
    Truncated,
    check_ids,
    encode,
    most_tokens,
    pad,
)


class TokenisedModel:
    """A causal language model of transformers with its tokenizer, before anything is asked of it (see `Model`)."""

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

    @property
    def device(self) -> torch.device:
        """Device that takes the token ids: of the embedding, or where it is fetched to if it is offloaded."""
        return entrance(self.network.module)

    @property
    def dtype(self) -> torch.dtype:
        return self.network.module.dtype

    @property
    def hash(self) -> str:
        """Hash of the weights as they are now; it reads all of them at every call.

        Its value for weights as loaded is that of their files, whatever the dtype that they are computed in. A network
        with foreign hooks, in training mode or with parametrizations is refused: see `identity.check_untouched`.
        """
        with self.network.lock:  # another thread's pass may have hooks on it, or its blocks in another order
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
        with self.network.lock:
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

    def _pad(self, encodings: Sequence[Encoding]) -> Tokens:
        return pad(encodings, self.tokenizer.pad_token_id or 0)
