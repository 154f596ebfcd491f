"""Where a certificate stops, worked out by hand from binomial tails."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from theodolite.calibration.certified import Certified, cells, doubt, threshold
from theodolite.calibration.max_softmax import MaxSoftmax
from theodolite.core.calibrator import Predictions

# Of each class, by falling confidence: rows and how many of them are predicted wrong.
STEPS = ((0.9, 60, 0), (0.8, 20, 1), (0.7, 10, 1))


def certify() -> Predictions:
    """Symmetric in the classes, so that all four cells hold the same counts."""
    parts = [
        (np.full(n, sure), np.r_[np.full(wrong, 1 - y), np.full(n - wrong, y)], np.full(n, y))
        for sure, n, wrong in STEPS
        for y in (0, 1)
    ]
    return Predictions(*(np.concatenate(of) for of in zip(*parts, strict=True)))


@pytest.mark.parametrize(
    ("cut", "right", "n", "p"), [(0.9, 60, 60, 0.0461), (0.8, 79, 80, 0.0861), (0.7, 88, 90, 0.1664)]
)
def test_doubt_is_the_binomial_tail_of_each_cell(cut: float, right: int, n: int, p: float) -> None:
    assert cells(certify(), certify().confidence_n >= cut) == [(right, n)] * 4
    assert doubt(certify(), cut, 0.95) == pytest.approx(p, abs=1e-4)


@pytest.mark.parametrize(("delta", "stops"), [(0.04, np.inf), (0.05, 0.9), (0.1, 0.8), (0.2, 0.7)])
def test_it_stops_before_the_first_threshold_that_is_in_doubt(delta: float, stops: float) -> None:
    assert threshold([0.9, 0.8, 0.7], certify(), 0.95, delta) == stops


def test_a_threshold_behind_one_in_doubt_is_never_reached() -> None:
    assert threshold([0.7, 0.9], certify(), 0.95, 0.1) == np.inf


class Itself(LogisticRegression):
    """Whose score is the one column."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(X)[:, 0]


def fitted(rows: dict[str, tuple[np.ndarray, np.ndarray]], alpha: float = 0.9) -> Certified:
    """A certificate on the maximum softmax of a score, from (score, label) of each part."""
    score, label = (np.concatenate([of[i] for of in rows.values()]) for i in (0, 1))
    part = np.repeat(list(rows), [len(s) for s, _ in rows.values()])
    probe = FrozenEstimator(Itself().fit(np.array([[-1.0], [1.0]]), [0, 1]))
    return Certified(MaxSoftmax(probe), alpha=alpha).fit(score[:, None], label, part=part)


def drawn(rng: np.random.Generator, n: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels that they predict with few errors."""
    score = scale * rng.normal(size=n)
    return score, ((score > 0) ^ (rng.random(n) < 0.02)).astype(int)


def test_thresholds_come_from_the_calibration_rows_alone() -> None:
    """They must not come from the rows that test them: a fixed sequence is fixed before those are seen."""
    rng = np.random.default_rng(0)
    support, calibrate = drawn(rng, 50, 1.0), drawn(rng, 400, 1.0)
    one = fitted({"support": support, "calibrate": calibrate, "certify": drawn(rng, 400, 1.0)})
    other = fitted({"support": support, "calibrate": calibrate, "certify": drawn(rng, 300, 5.0)})
    assert one.cuts_ == other.cuts_
    at_calibrate = one.confidence(calibrate[0][:, None])
    assert len(one.cuts_) > 2
    assert np.isin(one.cuts_, at_calibrate).all()
    again = fitted({"support": support, "calibrate": drawn(rng, 400, 5.0), "certify": drawn(rng, 400, 1.0)})
    assert again.cuts_ != one.cuts_


def test_a_certificate_fails_no_more_often_than_delta_where_every_threshold_is_in_doubt() -> None:
    """Rows right with probability alpha exactly at every confidence: what is certified is luck, in 10 % at most.

    Thresholds that were chosen on the certify rows would be the luckiest ones there.
    """
    rng = np.random.default_rng(1)
    lucky = 0
    for _ in range(150):
        parts = {}
        for name, n in (("support", 40), ("calibrate", 300), ("certify", 300)):
            score = rng.normal(size=n)
            parts[name] = (score, ((score > 0) ^ (rng.random(n) < 0.12)).astype(int))
        lucky += np.isfinite(fitted(parts, alpha=0.88).threshold_)
    assert lucky <= 23  # binomial(150, .1): above it in 2 %


@pytest.mark.parametrize(
    ("counts", "worst"),
    [
        # (label, predicted): rows. All labels are read well, and two in five of what is predicted as 1 are wrong.
        ({(0, 0): 960, (0, 1): 40, (1, 1): 60}, ("predicted", 1)),
        # All predictions are right, and two in five rows of label 1 are missed.
        ({(0, 0): 960, (1, 0): 40, (1, 1): 60}, ("label", 1)),
        ({(1, 1): 960, (1, 0): 40, (0, 0): 60}, ("predicted", 0)),
        ({(1, 1): 960, (0, 1): 40, (0, 0): 60}, ("label", 0)),
    ],
)
def test_each_of_the_four_cells_can_stop_a_certificate(counts: dict, worst: tuple[str, int]) -> None:
    label, predicted = (np.repeat([key[i] for key in counts], list(counts.values())) for i in (0, 1))
    found = Predictions(np.full(len(label), 0.9), predicted, label)
    of = dict(
        zip([("label", 0), ("label", 1), ("predicted", 0), ("predicted", 1)], cells(found, label >= 0), strict=True)
    )
    assert of[worst] == (60, 100)
    assert all(right / n > 0.95 for cell, (right, n) in of.items() if cell != worst)
    assert doubt(found, 0.9, 0.9) > 0.99
    assert threshold([0.9], found, 0.9, 0.1) == np.inf


def test_a_rare_class_that_is_overpredicted_is_not_relied_on() -> None:
    """End to end: within each label more than .9 is right at every confidence, of what is predicted as 1 only .7."""
    rng = np.random.default_rng(0)

    def rare(n: int) -> tuple[np.ndarray, np.ndarray]:
        label = (rng.random(n) < 0.1).astype(int)
        right = rng.random(n) < 0.96
        return np.where(right, 2 * label - 1, 1 - 2 * label) * rng.uniform(0.5, 3, n), label

    rule = fitted({"support": rare(200), "calibrate": rare(4000), "certify": rare(4000)})
    assert rule.threshold_ == np.inf
