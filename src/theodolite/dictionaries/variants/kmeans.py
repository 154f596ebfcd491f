"""K-means under the contract of dictionaries."""

from dataclasses import dataclass

import torch
from sklearn.cluster import kmeans_plusplus
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.seeds import child_seed
from theodolite.dictionaries.activations import NearestRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training.classical import Classical, outcome
from theodolite.dictionaries.training.learner import Step


@dataclass(eq=False)
class KMeans(Classical):
    """Mini-batch k-means (Sculley 2010): the latent of the nearest centroid is 1, all others 0.

    The start is k-means++ on the first rows. A centroid is then the mean of all rows that ever chose it, each under
    the centroids of its time.

    >>> import torch
    >>> rows = torch.tensor([[0.0, 0.0], [0.0, 2.0], [9.0, 0.0], [9.0, 2.0]])
    >>> sorted(KMeans(2, width=2).fit([rows] * 3).dictionary().reconstruct(rows).tolist())
    [[0.0, 1.0], [0.0, 1.0], [9.0, 1.0], [9.0, 1.0]]
    """

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        if len(x_nd) < self.width:
            raise UserError(f"{len(x_nd)} rows to start from are less than {self.width} clusters; start with more rows")
        x = (x_nd - centre_d).cpu().numpy()
        centroids, _ = kmeans_plusplus(x, self.width, random_state=child_seed(self.seed, "kmeans"))
        self.buffers_["counts"] = torch.zeros(self.width, dtype=torch.int64, device=x_nd.device)
        return {"W_dec": torch.from_numpy(centroids).to(x_nd), "b_dec": centre_d}

    def _step(self, x_nd: Tensor) -> Step:
        W_fd, b_dec = self.parameters_["W_dec"], self.parameters_["b_dec"]
        z_nf = NearestRule()(2 * (x_nd - b_dec) @ W_fd.T - W_fd.square().sum(1), W_fd)
        statistics = {"counts": z_nf.sum(0).long(), "sums": z_nf.T @ (x_nd - b_dec)}
        return outcome(x_nd, z_nf @ W_fd + b_dec, z_nf, statistics)

    def _absorb(self, statistics: dict[str, Tensor]) -> None:
        W_fd, n_f1 = self.parameters_["W_dec"], statistics["counts"][:, None]
        self.buffers_["counts"] += statistics["counts"]
        W_fd += (statistics["sums"] - n_f1 * W_fd) / self.buffers_["counts"].clamp_min(1)[:, None]

    def _dictionary(self) -> Dictionary:
        W_fd, b_dec = self.parameters_["W_dec"].clone(), self.parameters_["b_dec"].clone()
        return Dictionary(2 * W_fd, -W_fd.square().sum(1), W_fd, b_dec, NearestRule())
