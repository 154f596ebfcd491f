"""Archetypal and relaxed archetypal dictionaries (Fel et al., 2502.12892)."""

import math
from dataclasses import KW_ONLY, dataclass

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from theodolite.core.errors import UserError
from theodolite.core.seeds import generator
from theodolite.dictionaries import coding
from theodolite.dictionaries.activations import TopKRule
from theodolite.dictionaries.dictionary import Dictionary
from theodolite.dictionaries.training import objective
from theodolite.dictionaries.training.learner import Step
from theodolite.dictionaries.variants.topk import TopK


@dataclass(eq=False)
class Archetypal(TopK):
    """TopK codes over atoms that are convex mixtures of data points: D = W C, or D = (W C + Λ) e^m where relaxed.

    C are `points` fixed data points (as many as latents if not given), W has rows >= 0 that sum to 1, Λ rows of norm
    at most `delta` (1 is the root mean square distance of a row from the centre), m is one number. Atoms are not of
    unit norm. Points are taken about the start's geometric median, which is b_dec's start; `centred=False` keeps the
    origin, as published: rows with a large mean then have atoms that are alike for that reason alone.

    independent_init: C is drawn from the start rows by `seed`, and W from a Dirichlet distribution. False is the
    published start: C are the k-means centroids of the start rows whatever the seed, and D is C. Runs that start from
    one dictionary agree before the first step, so agreement at the end says little about the constraint; with
    independent starts it gave no stabilisation (2606.02061). Hence the default. The encoder is drawn by `seed` in both.

    >>> import torch
    >>> rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    >>> fitted = Archetypal(8, width=16, k=4, relaxed=False, lr=1e-2).fit([rows] * 20)
    >>> W = fitted.parameters_["mixture"]
    >>> bool((W >= 0).all()), torch.allclose(W.sum(1), torch.ones(16))
    (True, True)
    """

    _: KW_ONLY
    relaxed: bool = True
    independent_init: bool = True
    points: int | None = None
    delta: float = 1.0
    centred: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if "decoder" in self.frozen:
            raise UserError(f"frozen={self.frozen!r}: an archetypal decoder is not free to begin with; use TopK for it")
        if self.points is not None and self.points < 1:
            raise UserError(f"points={self.points}: give at least 1 data point")
        if self.points is not None and self.points < self.width and not self.independent_init:
            raise UserError(
                f"points={self.points}: every latent starts at a point of its own, give at least {self.width} (width), "
                "or independent_init=True"
            )
        if self.delta < 0:
            raise UserError(f"delta={self.delta} is a distance: give 0 or more")

    def _parameters(self, x_nd: Tensor, centre_d: Tensor, rows_fd: Tensor) -> dict[str, Tensor]:
        n_points = self.points or self.width
        if len(x_nd) < n_points:
            raise UserError(f"{len(x_nd)} rows to start from are less than {n_points} points; start with more rows")
        centre = centre_d if self.centred else torch.zeros_like(centre_d)
        draw = self._independent if self.independent_init else self._shared
        points_cd, mixture_fc = (t.to(x_nd) for t in draw(x_nd - centre, n_points))
        self.buffers_["points"] = points_cd
        free = {"mixture": mixture_fc}
        if self.relaxed:
            free |= {"relaxation": torch.zeros_like(rows_fd), "log_scale": rows_fd.new_zeros(())}
        return {"W_enc": rows_fd, "b_enc": rows_fd.new_zeros(self.width), "b_dec": centre} | free

    def _independent(self, x_nd: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
        rng = generator(self.seed, "archetypal")
        chosen = rng.permutation(len(x_nd))[:n_points]
        # a concentration of 1 / points mixes about two points: with 1 all would be mixed, and D be nearly 0
        W = rng.dirichlet([1 / n_points] * n_points, size=self.width)
        return x_nd[torch.from_numpy(chosen).to(x_nd.device)], torch.from_numpy(W)

    def _shared(self, x_nd: Tensor, n_points: int) -> tuple[Tensor, Tensor]:
        means = MiniBatchKMeans(n_points, random_state=0, n_init=1).fit(x_nd.cpu().numpy())
        return torch.from_numpy(means.cluster_centers_), torch.eye(self.width, n_points)

    def atoms(self) -> Tensor:
        """D (f, d) on scaled rows, about b_dec's start."""
        D_fd = self.parameters_["mixture"] @ self.buffers_["points"]
        if not self.relaxed:
            return D_fd
        return (D_fd + self.parameters_["relaxation"]) * self.parameters_["log_scale"].exp()

    def _step(self, x_nd: Tensor) -> Step:
        """TopK's step for D, and the chain rule from D to W, Λ and m."""
        D_fd = self.atoms()
        w = {name: self.parameters_[name] for name in ("W_enc", "b_enc", "b_dec")} | {"W_dec": D_fd}
        done = objective.step(w, x_nd, self.k, self.dead_, **self._loss_options)
        g_D = done.gradients.pop("W_dec")
        if self.relaxed:
            done.gradients["log_scale"] = (g_D * D_fd).sum()
            g_D = g_D * self.parameters_["log_scale"].exp()
            done.gradients["relaxation"] = g_D
        done.gradients["mixture"] = g_D @ self.buffers_["points"].T
        return done

    def _constrain(self) -> None:
        W = self.parameters_["mixture"]
        W.copy_(row_stochastic(W))
        if self.relaxed:
            relaxation = self.parameters_["relaxation"]
            relaxation *= (self.delta / relaxation.norm(dim=1, keepdim=True)).clamp_max(1)

    def _dictionary(self) -> Dictionary:
        W_enc, b_enc, b_dec = (self.parameters_[name].clone() for name in ("W_enc", "b_enc", "b_dec"))
        return Dictionary(W_enc, b_enc, self.atoms(), b_dec, TopKRule(self.k))


def row_stochastic(W_fc: Tensor) -> Tensor:
    """Negative entries to 0, then rows divided by their sums; a row without a positive entry goes to the nearest point.

    >>> row_stochastic(torch.tensor([[3.0, 1.0, -5.0], [-0.2, -0.1, -9.0]]))
    tensor([[0.7500, 0.2500, 0.0000],
            [0.4500, 0.5500, 0.0000]])
    """
    kept = W_fc.relu()
    total = kept.sum(1, keepdim=True)
    return torch.where(total > 0, kept / total.clamp_min(math.ulp(0.0)), coding.sparsemax(W_fc))
