"""TopK dictionaries (Gao et al., 2406.04093)."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from torch import Tensor

from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training import objective
from theodolite.dictionaries.training.auxiliary import AuxK
from theodolite.dictionaries.training.learner import Learner, Step, check_k


@dataclass(eq=False)
class TopK(Learner):
    """The k largest latents of every row, cut at 0; the loss is the error's share of the variance, and AuxK.

    k: latents active per row. aux: weight of AuxK, the loss by which d/2 dead latents reconstruct what is missed.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = TopK(8, width=16, k=4, lr=1e-2).fit([rows] * 50)
    >>> fitted.encode(rows).shape, fitted.fvu(rows) < TopK(8, width=16, k=4).fit([rows]).fvu(rows)
    (torch.Size([512, 16]), True)
    """

    _: KW_ONLY
    k: int = 32
    aux: float = 1 / 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_k(self.k, self.width)

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        return {"W_enc": rows_fd.clone(), "b_enc": rows_fd.new_zeros(self.width), "W_dec": rows_fd, "b_dec": centre_d}

    def _step(self, x_nd: Tensor) -> Step:
        return objective.step(self.parameters_, x_nd, self.k, self.dead_, **self._loss_options)

    @property
    def _loss_options(self) -> dict[str, Any]:
        """AuxK, and whether the encoder has a gradient."""
        return {"aux": self._auxk(), "train_encoder": self.frozen != "encoder"}

    def _auxk(self) -> AuxK:
        return AuxK(max(self.d_in // 2, 1), self.aux)

    def _dictionary(self) -> Dictionary:
        return self._with_rule(TopKRule(self.k))
