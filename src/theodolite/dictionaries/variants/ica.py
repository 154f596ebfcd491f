"""Independent components under the contract of dictionaries."""

import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Self

import torch
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.seeds import child_seed, generator
from theodolite.dictionaries.activations import IdentityRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training.classical import Classical, outcome, principal
from theodolite.dictionaries.training.learner import Step


@dataclass(eq=False)
class ICA(Classical):
    """FastICA (Hyvärinen 1999, by scikit-learn) on a random sample of all rows seen; at most d_in signed latents.

    Batches fill a reservoir of `reservoir` rows in which every row so far has the same chance to be (Vitter 1985,
    seeded). `dictionary()` solves on it and keeps the answer until the next batch: hold on to it, 8,192 rows of 576
    numbers take minutes. It reconstructs as many principal components would, whose FVU the losses report; where
    FastICA did not converge in `iterations`, `dictionary().info["converged"]` is False. Decoder rows have norm 1.

    >>> import torch
    >>> sources = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    >>> fitted = ICA(2, width=2).fit((sources @ torch.tensor([[0.8, 0.6], [0.0, 1.0]])).split(500))
    >>> found = fitted.dictionary().W_dec.abs().sort(0).values
    >>> found.allclose(torch.tensor([[0.0, 0.6], [0.8, 1.0]]), atol=0.02)
    True
    """

    _: KW_ONLY
    reservoir: int = 8192
    iterations: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_more_than_d_in()
        if self.reservoir <= self.width:
            raise UserError(f"reservoir={self.reservoir} rows do not tell {self.width} components apart: give more")
        self._found: Dictionary | None = None

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        self._found = None
        self.buffers_ = {"rows": x_nd[: self.reservoir].clone(), "seen": torch.tensor(0)}  # until the first batch
        return self._subspace()

    def load_state(self, tensors: dict[str, Tensor], device: str | torch.device = "cpu") -> Self:
        self._found = None
        return super().load_state(tensors, device)

    def _step(self, x_nd: Tensor) -> Step:
        W_fd, b_dec = self.parameters_["W_dec"], self.parameters_["b_dec"]
        z_nf = (x_nd - b_dec) @ W_fd.T
        return outcome(x_nd, z_nf @ W_fd + b_dec, z_nf, {"rows": x_nd})

    def _absorb(self, statistics: dict[str, Tensor]) -> None:
        self._found = None
        seen, x_nd = int(self.buffers_["seen"]), statistics["rows"]
        room = max(self.reservoir - seen, 0)
        kept = self.buffers_["rows"] if seen else x_nd[:0]
        kept = torch.cat([kept, x_nd[:room]])
        # the row that comes as number t replaces slot j, drawn from t slots, where j is one of the reservoir's
        number = torch.arange(seen, seen + len(x_nd))[room:]
        slots = (generator(self.seed, "reservoir", self.step_).random(len(number)) * (number.numpy() + 1)).astype(int)
        for i, slot in enumerate(slots):
            if slot < self.reservoir:
                kept[slot] = x_nd[room + i]
        self.buffers_ = {"rows": kept, "seen": torch.tensor(seen + len(x_nd))}
        if self._solve_due():
            self.parameters_ = self._subspace()

    def _subspace(self) -> dict[str, Tensor]:
        """The principal components of the reservoir: ICA turns and stretches within them."""
        x = self.buffers_["rows"].double()
        mean = x.mean(0)
        return {"W_dec": principal((x - mean).T @ (x - mean), self.width).float(), "b_dec": mean.float()}

    def _dictionary(self) -> Dictionary:
        if self._found is None:
            self._found = self._solved()
        return self._found

    def _solved(self) -> Dictionary:
        x = self.buffers_["rows"]
        if len(x) <= self.width:
            raise UserError(f"{len(x)} rows do not tell {self.width} components apart: fit more rows")
        seed = child_seed(self.seed, "fast_ica")
        method = FastICA(self.width, whiten="unit-variance", max_iter=self.iterations, random_state=seed)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            method.fit(x.double().cpu().numpy())
        W_dec, W_enc, mean = (torch.from_numpy(a) for a in (method.mixing_.T, method.components_, method.mean_))
        norm = W_dec.norm(dim=1, keepdim=True)
        W_enc, W_dec, mean = ((t.to(x)) for t in (W_enc * norm, W_dec / norm, mean))
        converged = not any(issubclass(w.category, ConvergenceWarning) for w in told)
        return Dictionary(
            W_enc, W_enc.new_zeros(self.width), W_dec, mean, IdentityRule(), info={"converged": converged}
        )
