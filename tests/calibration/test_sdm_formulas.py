"""The formulas against worked examples and the authors' own package on random cases."""

import numpy as np
import pytest
from reexpress_sdm import calibration, math

from theodolite.calibration import _sdm
from theodolite.calibration._sdm import Region, ladder, level, region

GRID = [round(1 - 0.05 * k, 10) for k in range(1, 10)]


@pytest.mark.parametrize(
    ("z", "q", "d", "proba", "q_prime"),
    [
        ((-1.2, 0.7), 5, 0.6, (0.098116, 0.901884), 5),
        ((-1.2, 0.7), 0, 0.6, (0.312128, 0.687872), 0),
        ((-1.2, 0.7), 5, 0.0, (0.5, 0.5), 7**0.5),
        ((-1.2, 0.7), np.e - 2, 1.0, (0.130108, 0.869892), np.e - 2),
        ((0.2, -0.4, 1.1), 40, 0.25, (0.257105, 0.146765, 0.596130), 9.28256),
        ((-3.0, 3.0), 2048, 1.0, (0.0, 1.0), 2048),
    ],
)
def test_activation_and_rescaled_similarity_of_worked_examples(z, q, d, proba, q_prime) -> None:
    z_nc, q_n, d_n = np.array([z]), np.array([q]), np.array([d])
    found = _sdm.probabilities(z_nc, q_n, d_n)
    assert found[0] == pytest.approx(proba, abs=1e-6)
    assert _sdm.rescaled_similarity(q_n, found[:, np.argmax(z)])[0] == pytest.approx(q_prime, abs=1e-4)


@pytest.mark.parametrize(("q", "d", "loss"), [(5, 0.6, 0.053070), (0, 0.6, 0.539789), (5, 0.0, 0.356207)])
def test_loss_of_worked_examples(q, d, loss) -> None:
    found = _sdm.balanced_loss(np.array([[-1.2, 0.7]]), np.array([q]), np.array([d]), np.array([1]))
    assert found == pytest.approx(loss, abs=1e-6)


def test_the_worked_region_and_its_ladder() -> None:
    q_prime, y = np.array([0.0, 1, 1, 2, 3, 3, 4, 6, 8, 9]), np.array([0, 0, 1, 1, 0, 1, 0, 1, 0, 1])
    p1 = np.array([0.9, 0.4, 0.7, 0.55, 0.03, 0.97, 0.02, 0.99, 0.01, 0.98])
    proba = np.column_stack([1 - p1, p1])
    lower = region(q_prime, proba, y, 0.75)
    assert lower is not None
    assert (lower.q_min, lower.psi_c) == (2.0, pytest.approx((0.97, 0.97)))
    rungs = ladder(q_prime, proba, y, (p1 > 0.5).astype(int), [0.9, 0.8, 0.7, 0.6])
    assert [rung.alpha for rung in rungs] == [0.9]
    assert region(q_prime, proba, 1 - y, 0.9) is None


def cases(numbers: range):
    for number in numbers:
        rng = np.random.default_rng(number)
        n_classes, n = int(rng.integers(2, 5)), int(rng.integers(20, 400))
        y = rng.integers(0, n_classes, n)
        z = rng.normal(size=(n, n_classes)) + rng.uniform(0, 6) * np.eye(n_classes)[y]
        q = rng.integers(0, rng.integers(2, 300), n) * (rng.random(n) > 0.2)
        near = rng.gamma(2, size=n)
        yield z, q, near, y


@pytest.mark.parametrize("numbers", [range(150), pytest.param(range(150, 600), marks=pytest.mark.slow)])
def test_random_cases_equal_the_authors_package(numbers: range) -> None:
    worst = 0.0
    for z, q, near, y in cases(numbers):
        n_classes, predicted = z.shape[1], z.argmax(1)
        half = len(y) // 2
        by_class = [np.sort(near[:half][(y[:half] == c) & (q[:half] > 0)]) for c in range(n_classes)]
        d = _sdm.distance_quantile(near, by_class)
        proba = _sdm.probabilities(z, q, d)
        q_prime = _sdm.rescaled_similarity(q, proba[np.arange(len(y)), predicted])
        of_class = [np.sort(q_prime[:half][y[:half] == c]) for c in range(n_classes)]
        sizes = _sdm.effective_sizes(q_prime, of_class)
        error = _sdm.dkw_error(sizes.min(1), 0.95)
        theirs_d = math.distance_quantiles(near, by_class)
        theirs_p = math.sdm_probabilities(z, q, theirs_d)
        theirs_q = math.rescaled_similarities(q, theirs_p[np.arange(len(y)), predicted])
        theirs_sizes = math.effective_sample_size_matrix(q_prime, of_class)
        theirs_lower, _ = math.distance_bands(theirs_d, math.dkw_error_matrix(sizes, 0.95))
        for ours, theirs in [
            (d, theirs_d),
            (proba, theirs_p),
            (q_prime / (1 + q_prime), theirs_q / (1 + theirs_q)),  # of numbers up to 300 in float32
            (np.clip(d - error, 0, 1), theirs_lower),
        ]:
            worst = max(worst, float(np.abs(ours - theirs).max()))
        assert (sizes == theirs_sizes).all()
        ours_regions = ladder(q_prime[:half], proba[:half], y[:half], predicted[:half], GRID)
        theirs_regions = calibration.calibrate_nested_regions(
            theirs_p[:half],
            theirs_q[:half],
            y[:half],
            number_of_classes=n_classes,
            alpha_resolution=0.05,
            predictions=predicted[:half],
        )
        assert [r.alpha for r in ours_regions] == [r.alpha for r in theirs_regions]
        for r, s in zip(ours_regions, theirs_regions, strict=True):
            assert r.q_min == pytest.approx(s.minimum_rescaled_similarity, rel=1e-5)
            assert r.psi_c == pytest.approx(s.output_thresholds, abs=1e-5)
        ours_level = level(ours_regions, q_prime[half:], proba[half:], predicted[half:])
        theirs_level = [
            math.assigned_region_alpha(*row, theirs_regions, 0)
            for row in zip(theirs_q[half:], theirs_p[half:], predicted[half:], strict=True)
        ]
        assert ours_level == pytest.approx(np.array(theirs_level))
    assert worst <= 1e-5


def test_a_region_holds_only_rows_whose_predicted_class_alone_reaches_its_threshold() -> None:
    where = Region(0.9, 2.0, (0.95, 0.91))
    proba = np.array([[0.06, 0.94], [0.94, 0.06], [0.96, 0.04], [0.01, 0.99]])
    predicted = np.array([1, 0, 0, 0])  # the last is not the more probable class
    assert where.holds(np.array([3.0, 3, 3, 3]), proba, predicted).tolist() == [True, False, True, False]
    assert not where.holds(np.array([1.9, 1.9, 1.9, 1.9]), proba, predicted).any()
