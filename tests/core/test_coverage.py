"""Does the 95 % interval cover the truth? Simulated procedures whose expected AUROC is known in closed form.

Rows come in near-duplicate clusters of one to three; texts x ~ N(+-delta/2, Sigma), half of Sigma between clusters. A
pool of clusters is split anew for every seed (half train, 20 % test), so that seeds overlap as ours do; the shift has
another delta, and may wrap requests into templates that move the rows. For a direction w the AUROC is
Phi(w.delta / sqrt(2 w'Sigma w)); its mean over 1500 fresh training sets is what an interval must cover.
"""

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from theodolite.core.detectable import Assumed, smallest_detectable
from theodolite.core.metrics import auroc
from theodolite.core.seeds import generator
from theodolite.core.stats import Estimate, Sample
from theodolite.core.training_sets import TrainingSets
from theodolite.core.verdict import verdicts

spec = importlib.util.spec_from_file_location("intervals", Path(__file__).parents[2] / "benchmarks" / "intervals.py")
assert spec is not None
assert spec.loader is not None
intervals = importlib.util.module_from_spec(spec)
sys.modules["intervals"] = intervals  # dataclasses look their module up
spec.loader.exec_module(intervals)

Array = np.ndarray
REPEATS = 200
SEEDS = 5
CONTRASTS = [("lda", "mean difference"), ("2-sparse", "lda")]


@dataclass(frozen=True)
class World:
    """The population, and how much of it a study sees: `pool` clusters to train and test on, `shift` clusters."""

    d: int = 30
    gain: float = 1.0
    pool: int = 600
    shift: int = 200
    templates: int = 0

    @property
    def scale(self) -> Array:
        return np.linspace(1.6, 0.4, self.d)

    def delta(self, shifted: bool) -> Array:
        rng = generator(5, "delta")
        train = rng.normal(size=self.d) * 0.45 * (np.arange(self.d) < 10)
        return self.gain * (train + shifted * 0.3 * rng.normal(size=self.d))

    def rows(self, rng: np.random.Generator, n: int, shifted: bool = False) -> tuple[Array, Array, list[Array]]:
        """Activations, labels and groupings of n fresh clusters."""
        wrapped = shifted and self.templates > 0
        cluster = np.repeat(np.arange(n), 4 if wrapped else rng.integers(1, 4, n))
        y = rng.integers(0, 2, n)[cluster]
        between, within = rng.normal(size=(n, self.d))[cluster], rng.normal(size=(len(y), self.d))
        x = (y[:, None] - 0.5) * self.delta(shifted) + self.scale * math.sqrt(0.5) * (between + within)
        if not wrapped:
            return x, y, [cluster]
        template = rng.integers(0, self.templates, len(y))
        return x + 0.7 * self.scale * rng.normal(size=(self.templates, self.d))[template], y, [cluster, template]

    def true_auroc(self, w: Array, shifted: bool) -> float:
        variance = (w * self.scale) ** 2 * (1 + 0.49 * (shifted and self.templates > 0))
        return float(norm.cdf(w @ self.delta(shifted) / math.sqrt(2 * variance.sum())))


def mean_difference(x: Array, y: Array) -> Array:
    return x[y == 1].mean(0) - x[y == 0].mean(0)


def lda(x: Array, y: Array) -> Array:
    residual = x - np.where(y[:, None] == 1, x[y == 1].mean(0), x[y == 0].mean(0))
    return np.linalg.solve(residual.T @ residual / len(x) + 0.05 * np.eye(x.shape[1]), mean_difference(x, y))


def two_sparse(x: Array, y: Array) -> Array:
    z = mean_difference(x, y) / x.std(0)
    return np.where(np.abs(z) >= np.sort(np.abs(z))[-2], z / x.std(0), 0.0)


METHODS: dict[str, Callable[[Array, Array], Array]] = {
    "lda": lda,
    "mean difference": mean_difference,
    "2-sparse": two_sparse,
}


def shuffled(y: Array, cluster: Array, rng: np.random.Generator) -> Array:
    """Whole clusters' labels permuted."""
    return rng.permutation(y[np.unique(cluster, return_index=True)[1]])[cluster]


def truth(world: World, shifted: bool, shuffle: bool) -> dict[str, float]:
    """Mean AUROC over fresh training sets of the size a seed has."""
    found: dict[str, list[float]] = {m: [] for m in METHODS}
    for repeat in range(1500):
        rng = generator(repeat, "truth")
        x, y, (cluster, *_) = world.rows(rng, world.pool // 2)
        y = shuffled(y, cluster, rng) if shuffle else y
        for name, fit in METHODS.items():
            found[name].append(world.true_auroc(fit(x, y), shifted))
    return {name: float(np.mean(values)) for name, values in found.items()}


def study(world: World, repeat: int, shifted: bool, shuffle: bool) -> tuple[Sample, dict[str, Array]]:
    """One study: a pool, five seeds refitted on halves of it, their scores on what they are judged on."""
    rng = generator(repeat, "study")
    x, y, (cluster, *_) = world.rows(rng, world.pool)
    labels = shuffled(y, cluster, rng) if shuffle else y
    rows, truth_y, groups = world.rows(rng, world.shift, shifted=True) if shifted else (x, y, [cluster])
    asked = np.ones((SEEDS, len(truth_y)), bool)
    scores = {name: np.empty(asked.shape) for name in METHODS}
    for seed in range(SEEDS):
        order = rng.permutation(world.pool)
        train = np.isin(cluster, order[: world.pool // 2])
        if not shifted:
            asked[seed] = np.isin(cluster, order[world.pool * 4 // 5 :])
        for name, fit in METHODS.items():
            scores[name][seed] = rows @ fit(x[train], labels[train])
    return Sample.of(truth_y, groups, asked, n_boot=400, seed=repeat), scores


@dataclass(frozen=True)
class Covered:
    """Share of studies whose interval holds the truth, and the share without the term for the shared pool."""

    share: float
    naive: float


def coverage(world: World, shifted: bool = True, shuffle: bool = False, repeats: int = REPEATS) -> dict[str, Covered]:
    """Coverage per method and contrast, printed with its Clopper-Pearson interval."""
    known = truth(world, shifted, shuffle)
    hits: dict[str, list[tuple[bool, bool]]] = {}

    def judge(name: str, estimate: Estimate, target: float, bounded: bool) -> None:
        both = (estimate.interval(bounded), replace(estimate, training=TrainingSets(overlap=0.0)).interval(bounded))
        hits.setdefault(name, []).append(tuple(i.lo <= target <= i.hi for i in both))  # type: ignore[arg-type]

    for repeat in range(repeats):
        sample, scores = study(world, repeat, shifted, shuffle)
        for name in METHODS:
            judge(name, sample.estimate(auroc, scores[name]), known[name], bounded=True)
        for one, other in CONTRASTS:
            difference = sample.paired(auroc, scores[one], scores[other])
            judge(f"{one} - {other}", difference, known[one] - known[other], bounded=False)
    found = {}
    for name, held in hits.items():
        share, naive = np.mean(held, axis=0)
        exact = binomtest(sum(h for h, _ in held), len(held)).proportion_ci()
        print(f"{name:22s} covered {share:.3f} [{exact.low:.3f}, {exact.high:.3f}], without the pool term {naive:.3f}")
        found[name] = Covered(float(share), float(naive))
    return found


@pytest.mark.slow
def test_intervals_cover_a_known_difference_on_a_shift() -> None:
    found = coverage(World())
    for name, covered in found.items():
        assert 0.91 <= covered.share <= 0.98, name
    assert found["lda - mean difference"].naive < 0.85  # why the term is there


@pytest.mark.slow
def test_intervals_over_requests_and_templates_cover() -> None:
    """The first 200 studies alone cover LDA - mean difference in .900, 800 in .945: luck, so there are more here."""
    for name, covered in coverage(World(gain=1.5, templates=30), repeats=600).items():
        assert 0.91 <= covered.share <= (0.99 if name == "2-sparse" else 0.98), name


@pytest.mark.slow
def test_intervals_in_distribution_err_wide() -> None:
    for name, covered in coverage(World(pool=900, gain=2), shifted=False).items():
        assert covered.share >= 0.91, name


@pytest.mark.slow
def test_shuffled_labels_cover_a_half() -> None:
    """The pool's labels are shuffled once, so that seeds share what halves of one pool share.

    A sparse choice jumps between features that say nothing, its seeds share less than half, and it is covered more.
    """
    for name, covered in coverage(World(), shuffle=True).items():
        assert 0.91 <= covered.share <= (1.0 if "2-sparse" in name else 0.98), name


@pytest.mark.slow
@pytest.mark.parametrize("layout", [*intervals.LAYOUTS][:4])
def test_intervals_cover_where_groups_are_unequal(layout: str) -> None:
    """`benchmarks/intervals.py` at fewer replicates: bands are 92 to 98 % and 1.5, plus three standard errors."""
    replicates = 250
    slack = 3 * math.sqrt(0.95 * 0.05 / replicates)
    for cell in intervals.cells(layout, replicates):
        print(intervals.markdown([cell]))
        assert cell.printed == 1, cell
        assert 0.92 - slack <= cell.covered <= 0.98 + slack, cell
        assert cell.width <= 1.5 * (1 + 3 / math.sqrt(2 * replicates)), cell


@pytest.mark.slow
def test_eight_groups_get_no_interval() -> None:
    assert {cell.printed for cell in intervals.cells("8 groups of 20 to 200", 20)} == {0}


def binormal_study(repeat: int, gap: float, n: int, spread: float) -> Estimate:
    """Two methods of AUROC .85 - gap / 2 and + gap / 2 whose difference varies by `spread` between seeds."""
    rng = generator(repeat, "power")
    y = np.repeat([0, 1], n)
    shared, own = rng.normal(size=2 * n), rng.normal(size=(2, 2 * n))
    noise = math.sqrt(0.5) * (shared + own)  # scores of the two methods correlate at .5
    drift = spread * (rng.normal() + rng.normal(size=SEEDS))  # half of a refit's variance is the pool's: overlap .5
    sample = Sample.of(y, [np.arange(2 * n)], np.ones((SEEDS, 2 * n), bool), n_boot=400, seed=repeat)
    height = [0.85 - gap / 2 - drift / 2, 0.85 + gap / 2 + drift / 2]
    worse, better = (math.sqrt(2) * norm.ppf(h)[:, None] * y + e for h, e in zip(height, noise, strict=True))
    return sample.paired(auroc, better, worse)


@pytest.mark.slow
def test_the_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    gap = smallest_detectable(200, 200, SEEDS, Assumed(spread=0.01))
    found = [
        verdicts([binormal_study(r, gap, 200, 0.01).interval(bounded=False)])[0].p_different < 0.05
        for r in range(REPEATS)
    ]
    print(f"power at {gap:.3f}: {np.mean(found):.3f}")
    assert 0.7 <= np.mean(found) <= 0.9
