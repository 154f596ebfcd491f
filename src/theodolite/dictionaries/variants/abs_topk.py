"""AbsTopK dictionaries (2510.00404)."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from theodolite.dictionaries import objective, preselect
from theodolite.dictionaries.activations import AbsTopKRule
from theodolite.dictionaries.codes import Codes
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.learner import Step
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
        how: dict[str, Any] = {"k_aux": self.d_in // 2, "alpha": self.aux, "train_encoder": self.frozen != "encoder"}
        return objective.step_of(w, x_nd, centred, Codes.padded(idx, val, self.width), self.dead_, signed=True, **how)

    def _dictionary(self) -> Dictionary:
        W_enc, b_enc, W_dec, b_dec = (self.parameters_[name].clone() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
        return Dictionary(W_enc, b_enc, W_dec, b_dec, AbsTopKRule(self.k))
