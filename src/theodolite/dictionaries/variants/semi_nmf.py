"""Semi-nonnegative matrix factorisation under the contract of dictionaries."""

from dataclasses import KW_ONLY, dataclass

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.seeds import child_seed
from theodolite.dictionaries.activations import NonnegativeFistaRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training.classical import Classical, outcome, remembered
from theodolite.dictionaries.training.learner import Step


@dataclass(eq=False)
class SemiNMF(Classical):
    """x ≈ z D with z >= 0 and D of either sign (Ding et al. 2010), by alternating minimisation over batches.

    Start and dictionary step are Ding's: k-means centroids, and the least squares D = (ZᵀZ)⁻¹ ZᵀX, here from sums over
    batches that fade as in Mairal et al. (2009). Codes are the minimum itself (nonnegative least squares by
    `iterations` steps of FISTA), where Ding's multiplicative rule takes one step towards it per pass: rows of a
    stream come once. As published there is no bias: b_dec is 0. Decoder rows have norm 1.

    >>> import torch
    >>> draw = torch.Generator().manual_seed(0)
    >>> codes = torch.rand(512, 3, generator=draw) * (torch.rand(512, 3, generator=draw) < 0.5)
    >>> rows = codes @ torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, -1.0], [0.0, 0.0, 1.0, 0.0]])
    >>> fitted = SemiNMF(4, width=3).fit([rows] * 20)
    >>> bool((fitted.encode(rows) >= 0).all()), fitted.fvu(rows) < 0.02
    (True, True)
    """

    _: KW_ONLY
    iterations: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1:
            raise UserError(f"iterations={self.iterations}: give at least 1")

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        if len(x_nd) < self.width:
            raise UserError(f"{len(x_nd)} rows to start from are less than {self.width} clusters; start with more rows")
        seed = child_seed(self.seed, "semi_nmf")
        # one start of k-means missed an atom for 2 of 20 seeds (mean correlation .76, .87); the best of five for none
        means = MiniBatchKMeans(self.width, random_state=seed, n_init=5).fit(x_nd.cpu().numpy())
        self.buffers_ = {"zz": x_nd.new_zeros(self.width, self.width), "zx": torch.zeros_like(rows_fd)}
        self.buffers_ = {name: t.double() for name, t in self.buffers_.items()}
        W_fd = torch.from_numpy(means.cluster_centers_).to(x_nd)
        return {"W_dec": torch.nn.functional.normalize(W_fd, dim=1)}

    def _step(self, x_nd: Tensor) -> Step:
        W_fd = self.parameters_["W_dec"]
        z_nf = self._rule()(x_nd @ W_fd.T, W_fd)
        statistics = {"zz": (z_nf.T @ z_nf).double(), "zx": (z_nf.T @ x_nd).double(), "n": torch.tensor(len(x_nd))}
        return outcome(x_nd, z_nf @ W_fd, z_nf, statistics)

    def _absorb(self, statistics: dict[str, Tensor]) -> None:
        """Least squares for the latents in use; norms go from D to the codes, so also to the sums over codes."""
        W_fd, share = self.parameters_["W_dec"], remembered(self.step_, int(statistics["n"]))
        zz, zx = (self.buffers_[name] * share + statistics[name] for name in ("zz", "zx"))
        used = zz.diagonal() > 0
        ridge = 1e-10 * zz.diagonal().mean() * torch.eye(int(used.sum()), dtype=zz.dtype, device=zz.device)
        D_fd = torch.linalg.solve(zz[used][:, used] + ridge, zx[used])
        norm = torch.ones_like(zz[:, :1])
        norm[used] = D_fd.norm(dim=1, keepdim=True)
        W_fd[used] = (D_fd / norm[used]).to(W_fd)
        self.buffers_ = {"zz": zz * norm * norm.T, "zx": zx * norm}

    def _rule(self) -> NonnegativeFistaRule:
        return NonnegativeFistaRule(0.0, self.iterations)

    def _dictionary(self) -> Dictionary:
        W_fd = self.parameters_["W_dec"].clone()
        return Dictionary(W_fd, W_fd.new_zeros(self.width), W_fd, torch.zeros_like(W_fd[0]), self._rule())
