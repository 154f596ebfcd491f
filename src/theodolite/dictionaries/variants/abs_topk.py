"""AbsTopK dictionaries (2510.00404)."""

from dataclasses import dataclass, replace

from torch import Tensor

from theodolite.dictionaries.activations import AbsTopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops import preselect
from theodolite.dictionaries.ops.codes import Codes
from theodolite.dictionaries.training import objective
from theodolite.dictionaries.training.auxiliary import AuxK
from theodolite.dictionaries.training.learner import Step
from theodolite.dictionaries.variants.topk import TopK


@dataclass(eq=False)
class AbsTopK(TopK):
    """The k latents of every row with the largest absolute values, signs kept: one latent for a concept and its
    opposite.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> z = AbsTopK(8, width=16, k=4, lr=1e-2).fit([rows] * 50).encode(rows)
    >>> bool((z < 0).any()), int((z != 0).sum(1).max())
    (True, 4)
    """

    def _step(self, x_nd: Tensor) -> Step:
        w = self.parameters_
        centred = x_nd - w["b_dec"]
        idx, val = preselect.top_k(centred, w["W_enc"], w["b_enc"], self.k, signed=True)
        codes = Codes.padded(idx, val, self.width)
        return objective.step_of(w, x_nd, centred, codes, self.dead_, **self._loss_options)

    def _auxk(self) -> AuxK:
        return replace(super()._auxk(), signed=True)

    def _dictionary(self) -> Dictionary:
        return self._with_rule(AbsTopKRule(self.k))
