"""Do the 95 % intervals of steering cover the truth? Simulated studies whose true effects are known.

A study has openings in groups, fits on halves of one pool of training groups, and two methods: the effect of opening i
under fit s is the method's mean + what the fit's training groups add + what the opening adds + noise. The mean over
concepts adds a concept's own deviation. The fast tests take a few studies with a fixed seed, the slow ones hundreds.
"""

import numpy as np
import pytest
from scipy.stats import binomtest

from theodolite.control.hierarchy import over_concepts
from theodolite.control.shared_openings import error_covariance, influence
from theodolite.control.statistics import contrast, mean_effect
from theodolite.core.training_sets import TrainingSets

Array = np.ndarray
TRUE = 0.4


def openings(rng: np.random.Generator, groups: int) -> Array:
    """Group of each opening: one to three openings in each."""
    return np.repeat(np.arange(groups), rng.integers(1, 4, groups))


def fits(rng: np.random.Generator, n_fits: int, pool: int = 80) -> tuple[Array, TrainingSets]:
    """What each fit adds to a difference, (S,), and what the training sets share: halves of a pool of groups."""
    influence = rng.normal(size=pool)
    member = np.array([rng.permutation(pool) < pool // 2 for _ in range(n_fits)])
    added = np.array([influence[m].mean() for m in member])
    return added, TrainingSets.measured(member, np.arange(pool), np.zeros(pool), np.zeros(pool, bool))


def covered(rng: np.random.Generator, n_fits: int, groups: int = 50) -> bool:
    """Whether the interval of one paired contrast holds the truth: of one fit, that fit's own difference."""
    group = openings(rng, groups)
    added, training = fits(rng, n_fits)
    shared = 2 * rng.normal(size=len(group))  # what openings do to both methods: must cancel
    own = 0.5 * rng.normal(size=groups)[group]
    other = shared + 0.4 * rng.normal(size=(n_fits, len(group)))
    one = shared + TRUE + added[:, None] + own + 0.4 * rng.normal(size=(n_fits, len(group)))
    found = contrast(one, other, group, training=training, seed=int(rng.integers(2**31)))
    truth = TRUE + added[0] if n_fits == 1 else TRUE
    return found.lo <= truth <= found.hi


def mean_covered(rng: np.random.Generator, concepts: int, tau: float) -> bool:
    """Whether the interval of the mean over concepts holds the truth; errors within concepts are unequal."""
    error = rng.uniform(0.1, 0.5, concepts)
    effect = TRUE + tau * rng.normal(size=concepts) + error * rng.normal(size=concepts)
    # a standard error from 30 to 60 groups is itself estimated
    df = rng.integers(30, 60, concepts)
    found = over_concepts(effect, np.diag(error**2 * rng.chisquare(df) / df))
    return found.lo <= TRUE <= found.hi


def study_covered(rng: np.random.Generator, concepts: int) -> bool:
    """Whether the mean over concepts holds the truth where every concept is a study of openings with one fit."""
    found = []
    for _ in range(concepts):
        group = openings(rng, 30)
        own = TRUE + 0.3 * rng.normal() + 0.6 * rng.normal(size=30)[group] + 0.5 * rng.normal(size=len(group))
        found.append(mean_effect(own, group, seed=int(rng.integers(2**31))))
    mean = over_concepts(np.array([f.value for f in found]), np.diag([f.sd**2 for f in found]))
    return mean.lo <= TRUE <= mean.hi


def on_shared_openings(rng: np.random.Generator, concepts: int, n: int, rho: float, tau: float) -> tuple[bool, bool]:
    """Whether the mean over concepts holds the truth with the covariance of shared openings, and without it.

    What an opening adds is correlated by rho between concepts, whose scatter differs by up to four times.
    """
    scale_k1 = rng.uniform(0.5, 2.0, (concepts, 1))
    pull_kn = rho**0.5 * rng.normal(size=n) + (1 - rho) ** 0.5 * rng.normal(size=(concepts, n))
    effect_kn = TRUE + tau * rng.normal(size=(concepts, 1)) + scale_k1 * pull_kn
    sd_k = effect_kn.std(axis=1, ddof=1) / n**0.5
    shared = error_covariance(
        [influence(one) for one in effect_kn], [np.arange(n)] * concepts, sd_k, np.zeros(concepts)
    )
    found = [over_concepts(effect_kn.mean(1), error_kk) for error_kk in (shared, np.diag(sd_k**2))]
    return found[0].lo <= TRUE <= found[0].hi, found[1].lo <= TRUE <= found[1].hi


def about_95(hits: int, n: int, most: float = 0.975) -> bool:
    """Return whether so many hits are compatible with a coverage between .95 and `most`, at three standard errors."""
    lower = binomtest(hits, n, 0.95, alternative="less").pvalue
    upper = binomtest(hits, n, most, alternative="greater").pvalue
    return lower > 0.0013 and upper > 0.0013


@pytest.mark.parametrize("n_fits", [1, 3])
def test_a_paired_contrast_covers(n_fits: int) -> None:
    rng = np.random.default_rng(n_fits)
    assert about_95(sum(covered(rng, n_fits) for _ in range(40)), 40)


@pytest.mark.parametrize(("concepts", "tau"), [(8, 0.3), (12, 0.3), (12, 0.0)])
def test_the_mean_over_concepts_covers(concepts: int, tau: float) -> None:
    rng = np.random.default_rng(concepts)
    # at tau = 0 an interval is never narrower than the errors within concepts say, so it covers a little more
    assert about_95(sum(mean_covered(rng, concepts, tau) for _ in range(200)), 200, 0.975 if tau else 0.99)


def test_the_mean_covers_where_concepts_share_their_openings() -> None:
    """12 concepts on 100 openings with correlations of .7: in 1,000 studies .968 and, errors taken as apart, .561."""
    rng = np.random.default_rng(12)
    with_it, without = np.array([on_shared_openings(rng, 12, 100, 0.7, 0.0) for _ in range(150)]).sum(0)
    assert about_95(with_it, 150, 0.985)
    assert without < 0.7 * 150


@pytest.mark.slow
@pytest.mark.parametrize(
    ("concepts", "n", "rho", "tau"),
    [(12, 100, 0.7, 0.0), (12, 100, 0.7, 0.3), (12, 100, 0.3, 0.1), (12, 100, 0.0, 0.3), (12, 20, 0.3, 0.0)],
)
def test_the_mean_covers_on_shared_openings_in_many_studies(concepts: int, n: int, rho: float, tau: float) -> None:
    rng = np.random.default_rng(n + concepts)
    with_it, without = np.array([on_shared_openings(rng, concepts, n, rho, tau) for _ in range(1000)]).sum(0)
    assert about_95(with_it, 1000, 0.985)
    assert without < 900 or rho == 0


@pytest.mark.slow
@pytest.mark.parametrize("n_fits", [1, 3, 5])
def test_a_paired_contrast_covers_in_many_studies(n_fits: int) -> None:
    rng = np.random.default_rng(100 + n_fits)
    assert about_95(sum(covered(rng, n_fits) for _ in range(400)), 400)


@pytest.mark.slow
@pytest.mark.parametrize("concepts", [8, 10, 12])
@pytest.mark.parametrize("tau", [0.0, 0.2, 0.6])
def test_the_mean_over_concepts_covers_in_many_studies(concepts: int, tau: float) -> None:
    rng = np.random.default_rng(concepts)
    assert about_95(sum(mean_covered(rng, concepts, tau) for _ in range(2000)), 2000, 0.975 if tau else 0.99)


@pytest.mark.slow
def test_studies_of_openings_and_concepts_cover_together() -> None:
    rng = np.random.default_rng(7)
    assert about_95(sum(study_covered(rng, 10) for _ in range(200)), 200)
