"""Matryoshka BatchTopK dictionaries (Bussmann et al., 2503.17547)."""

from dataclasses import KW_ONLY, dataclass, replace

from theodolite.core.errors import UserError
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.variants.batch_topk import BatchTopK


@dataclass(eq=False)
class Matryoshka(BatchTopK):
    """BatchTopK whose first latents must do without the others: the loss is the mean over nested dictionaries.

    Each dictionary is the first so many latents of the next, with the same codes; common features move to the front,
    and a parent cannot leave its children's rows to them (absorption). All reconstructions cost one decode, level by
    level. AuxK sees what the whole dictionary misses. One library sums over the dictionaries instead, which only
    scales the loss against AuxK; a term for b_dec alone, which another adds, is left out.

    prefixes: sizes as shares of `width`, the last of them 1.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> Matryoshka(8, width=16, k=4, lr=1e-2).fit([rows] * 50).encode(rows).shape
    torch.Size([512, 16])
    """

    _: KW_ONLY
    prefixes: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self._sizes
        if not sizes or sizes[-1] != self.width or sizes != sorted(set(sizes)) or sizes[0] < 1:
            raise UserError(
                f"prefixes={self.prefixes} of {self.width} latents are the sizes {sizes}: give rising shares that end "
                "with 1 and differ by a latent or more"
            )

    @property
    def _sizes(self) -> list[int]:
        return [round(share * self.width) for share in self.prefixes]

    def _nested(self) -> dict[int, float] | None:
        return dict.fromkeys(self._sizes, 1 / len(self.prefixes))

    def _dictionary(self) -> Dictionary:
        return replace(super()._dictionary(), info={"groups": self._sizes})
