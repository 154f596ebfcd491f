"""Protocol of a language model, for rooms that do not import `models`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from theodolite.core.activations import Activations
from theodolite.core.block_order import BlockOrder
from theodolite.core.intervention import Intervention
from theodolite.core.positions import Positions
from theodolite.core.site import AtSites, Site

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Format = Literal["auto", "chat", "raw"]
Texts = str | Sequence[str]  # a bare string is a list of one
Sites = Site | str | Iterable[Site | str]
# changes of a pass: interventions on states, or another order of blocks
Interventions = Intervention | BlockOrder | Sequence[Intervention | BlockOrder]


class LanguageModel(Protocol):
    """Interface of a language model; `models.model.Model` implements it and documents each method.

    Tokens, traces, scores and the network have their types in `models`. Other rooms pass them on and read their public
    fields, so they are `Any` here.
    """

    name: str
    quantisation: str
    network: Any
    tokenizer: Any
    n_blocks: int
    d_model: int
    parameters: int

    @property
    def device(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def hash(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def has_template(self) -> bool: ...
    @property
    def clock(self) -> datetime: ...

    def fingerprint(self) -> dict[str, str]: ...
    def set_clock(self, moment: datetime) -> None: ...
    def template_around(self, format: Format = "chat") -> tuple[str, str]: ...
    def control_tokens_in(self, texts: Texts) -> list[tuple[str, ...]]: ...
    def most_tokens(self, format: Format, max_tokens: int) -> int: ...
    def check_ids(self, encodings: Sequence[Any]) -> None: ...
    def site(self, site: Site | str) -> Site: ...
    def sites(self, *, inner: bool = False) -> list[Site]: ...
    def batch_tokens(self, sites: Iterable[Site] | None) -> int: ...
    def tokens(self, texts: Texts, *, format: Format = "chat", max_tokens: int = 256) -> Any: ...

    def start(self, tokens: Any, block: int, interventions: Interventions = ()) -> Any: ...

    def run(
        self,
        tokens: Any,
        capture: Sites = (),
        interventions: Interventions = (),
        grad: bool = False,
        logits: bool | Literal["last"] = True,
        start: Any = None,
    ) -> Any: ...

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
    ) -> AtSites[Activations]: ...

    def embed(self, texts: Texts, *, format: Format = "chat", max_tokens: int | None = None) -> "np.ndarray": ...

    def loss(
        self,
        texts: Texts,
        *,
        positions: Positions | str = "content",
        interventions: Interventions = (),
        format: Format = "raw",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> Any: ...

    def kl(
        self,
        texts: Texts,
        *,
        interventions: Interventions,
        positions: Positions | str = "content",
        format: Format = "raw",
        max_tokens: int | None = None,
    ) -> "Tensor": ...

    def kl_per_text(
        self,
        texts: Texts,
        *,
        interventions: Interventions,
        positions: Positions | str = "content",
        format: Format = "raw",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> "np.ndarray": ...

    def logprobs(
        self,
        prompts: Texts,
        continuations: Texts,
        *,
        interventions: Interventions = (),
        format: Format = "chat",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
    ) -> Any: ...

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
    ) -> list[str]: ...
