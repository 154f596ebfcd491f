"""BatchTopK dictionaries (Bussmann et al., 2412.06410)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from theodolite.dictionaries.activations import JumpReluRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.ops import preselect
from theodolite.dictionaries.training import objective
from theodolite.dictionaries.training.learner import Step
from theodolite.dictionaries.variants.topk import TopK

# Weight of the newest batch in the running threshold. A batch has it to 1 or 2 %; at the published 0.01 the mean lags
# behind weights that learn: after 146 steps on the default model rows used 25 latents instead of 32.
MEMORY = 0.1


@dataclass(eq=False)
class BatchTopK(TopK):
    """The k n largest latents of a batch of n rows together, so that rows may use more or fewer than k.

    A row alone has no batch: trained, a latent is active above one threshold for all, the running mean of the smallest
    latent that batches kept (in float64: it moves by little). It is the trained dictionary's JumpReLU threshold.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = BatchTopK(8, width=16, k=4, lr=1e-2).fit([rows] * 300)
    >>> l0 = (fitted.encode(rows) > 0).sum(1).double()
    >>> round(float(l0.mean())), float(l0.std()) > 0.5
    (4, True)
    """

    rate = 2e-3  # at 4e-3 the error is 3 % lower after 936 steps, but 5 to 8 % of 4,096 latents fall out of use

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self.buffers_["threshold"] = torch.zeros((), dtype=torch.float64, device=x_nd.device)
        return super()._parameters(x_nd, centre_d, rows_fd)

    def _step(self, x_nd: Tensor) -> Step:
        w = self.parameters_
        centred = x_nd - w["b_dec"]
        codes = preselect.batch_top_k(centred, w["W_enc"], w["b_enc"], self.k)
        kept = codes.value[codes.value > 0]
        self._smallest = kept.min().double() if len(kept) else self.buffers_["threshold"]
        return objective.step_of(w, x_nd, centred, codes, self.dead_, nested=self._nested(), **self._loss_options)

    def _nested(self) -> dict[int, float] | None:
        """The weights of nested dictionaries by their sizes; here there is but the whole."""
        return None

    def _constrain(self) -> None:
        """Move the threshold towards the smallest latent that the batch kept; the first batch sets it."""
        super()._constrain()
        threshold = self.buffers_["threshold"]
        self.buffers_["threshold"] = threshold.lerp(self._smallest, MEMORY) if self.step_ else self._smallest

    def _dictionary(self) -> Dictionary:
        smallest = self.buffers_["threshold"].float()
        threshold = torch.nextafter(smallest, torch.zeros_like(smallest))  # just below, since it is itself active
        return self._with_rule(JumpReluRule(threshold.expand(self.width).clone()))
