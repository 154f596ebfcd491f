"""Where a certificate stops, worked out by hand from binomial tails."""

import numpy as np
import pytest

from theodolite.calibration.certified import cells, doubt, threshold
from theodolite.core.calibrator import Judged

# Of each class, by falling confidence: rows and how many of them are predicted wrong.
STEPS = ((0.9, 60, 0), (0.8, 20, 1), (0.7, 10, 1))


def certify() -> Judged:
    """Symmetric in the classes, so that all four cells hold the same counts."""
    parts = [
        (np.full(n, sure), np.r_[np.full(wrong, 1 - y), np.full(n - wrong, y)], np.full(n, y))
        for sure, n, wrong in STEPS
        for y in (0, 1)
    ]
    return Judged(*(np.concatenate(of) for of in zip(*parts, strict=True)))


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
