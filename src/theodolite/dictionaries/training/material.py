"""Material of a training run: texts that a model reads as it goes, or rows that were harvested before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from theodolite.core.errors import UserError, unknown
from theodolite.core.language_model import LanguageModel
from theodolite.dictionaries.metrics import CrossEntropy, cross_entropy
from theodolite.dictionaries.training import card
from theodolite.dictionaries.training.corpus import Corpus
from theodolite.dictionaries.training.held_out import held_out_documents, held_out_rows
from theodolite.dictionaries.training.stored import StoredRows, StoredStream
from theodolite.dictionaries.training.stream import READ, Rows, Stream, parts_of

CE_TEXTS = 32  # about 7,000 tokens: three to ten passes of the whole model over them per site


@dataclass(frozen=True)
class Texts:
    """A corpus, read by the model block by block; `how` holds further options of `model.read`."""

    model: LanguageModel
    corpus: Corpus
    how: Mapping[str, Any] = field(default_factory=dict)

    def check(self, sites: Sequence[str]) -> int:
        """Refuse rows that cannot be trained on; returns the width of a row."""
        parts_of(self.corpus)
        held_out_documents(self.corpus, 0)
        return int(self.model.d_model)

    def about(self) -> dict[str, Any]:
        """Facts that the rows depend on beside the plan, as a request names them."""
        return {"model": self.model.hash, "dtype": str(self.model.dtype), "corpus": self.corpus.digest()}

    @property
    def name(self) -> str:
        return self.corpus.recipe.name

    @property
    def model_name(self) -> str:
        return str(self.model.name)

    @property
    def device(self) -> str:
        return str(self.model.device)

    def stream(self, sites: Sequence[str], seed: int, block_rows: int) -> Stream:
        return Stream(self.model, sites, self.corpus, seed, block_rows, self.how)

    def held_out(self, sites: Sequence[str], seed: int) -> Rows:
        """Rows of documents that no dictionary trains on."""
        documents = held_out_documents(self.corpus, seed)
        return held_out_rows(self.model, sites, documents, self.corpus.recipe.max_tokens, **self.how)

    def main_domain(self, seed: int) -> str:
        """The domain that cross-entropy and plateau speak of."""
        return card.main_domain(d.format for d in held_out_documents(self.corpus, seed))

    def n_held_out(self, seed: int) -> int:
        """About how many rows `held_out` has: as many as are read for it."""
        documents, longest = held_out_documents(self.corpus, seed), self.corpus.recipe.max_tokens
        total = 0
        for form, positions in READ.items():
            texts = [d.text for d in documents if d.format == form]
            if texts:
                roles = self.model.tokens(texts, format=form, max_tokens=longest).roles
                total += int(positions.mask(roles.cpu().numpy()).sum())
        return total

    def cross_entropy(self, site: str, seed: int) -> CrossEntropy:
        """The model's cross-entropy on held-out texts, with rows at the site replaced."""
        return self.cross_entropy_of(site, self.main_texts(seed), seed)

    def main_texts(self, seed: int) -> list[str]:
        """The texts that the card's cross-entropy is measured on."""
        format = card.FORMATS[self.main_domain(seed)]
        return [d.text for d in held_out_documents(self.corpus, seed) if d.format == format][:CE_TEXTS]

    def cross_entropy_of(self, site: str, texts: list[str], seed: int) -> CrossEntropy:
        """Cross-entropy on any texts of the main domain's format."""
        longest = self.corpus.recipe.max_tokens
        return cross_entropy(self.model, site, texts, longest, card.FORMATS[self.main_domain(seed)])


@dataclass(frozen=True)
class Harvested:
    """Rows on disk; no model is needed, and without one no cross-entropy is measured."""

    rows: StoredRows
    device: str = "cpu"
    named: str = ""

    def check(self, sites: Sequence[str]) -> int:
        """Refuse rows that cannot be trained on; returns the width of a row."""
        for site in sites:
            if site not in self.rows.sites:
                raise unknown("harvested site", site, self.rows.sites)
        units = self.rows.store.units()
        if not units:
            raise UserError(f"{self.rows.store.folder} holds no finished unit: run the harvest to its end")
        return int(self.rows.read(units[0], [sites[0]], self.rows.texts(0)[0]).at[sites[0]].shape[1])

    def about(self) -> dict[str, Any]:
        """Facts that the rows depend on beside the plan, as a request names them."""
        fields = self.rows.fields
        return {"model": fields["model"], "dtype": fields["dtype"], "corpus": self.rows.digest()}

    @property
    def name(self) -> str:
        return f"store-{self.rows.store.key[:12]}"

    @property
    def model_name(self) -> str:
        """A harvest itself keeps only the hash of its model."""
        return self.named or str(self.rows.fields["model"])[:16]

    def stream(self, sites: Sequence[str], seed: int, block_rows: int) -> StoredStream:
        return StoredStream(self.rows, sites, seed, block_rows)

    def held_out(self, sites: Sequence[str], seed: int) -> Rows:
        """Rows of texts that no dictionary trains on."""
        return self.rows.held_out(sites, seed)

    def main_domain(self, seed: int) -> str:
        """The domain that the plateau speaks of."""
        return card.main_domain([self.rows.format])

    def n_held_out(self, seed: int) -> int:
        """About how many rows `held_out` has."""
        train, held_out = self.rows.texts(seed)
        return self.rows.n_rows() * len(held_out) // (len(train) + len(held_out))

    def cross_entropy(self, site: str, seed: int) -> None:
        """Not measured: the texts are gone."""
        return


Material = Texts | Harvested
