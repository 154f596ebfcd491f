"""Rows on which it is known what a probe's predictions are worth: which rules accept them, and how accurately."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.cross_decomposition import PLSRegression
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from theodolite.calibration.certified import Certified, cuts, doubt, expected_coverage, threshold
from theodolite.calibration.gated import GatedConfidence
from theodolite.calibration.knn_agreement import KnnAgreement
from theodolite.calibration.max_softmax import MaxSoftmax
from theodolite.calibration.sdm import Sdm
from theodolite.calibration.sgr import Sgr
from theodolite.core.calibrator import CalibrationRows, Calibrator, Predictions, TooFewRows, split
from theodolite.toys.selective import flipped, gaussians, off_support, pocket

ALPHA = 0.95


def accuracies(rule: Calibrator, X: np.ndarray, y: np.ndarray) -> tuple[float, list[float]]:
    """Accepted share, and the accuracy of what is accepted within each class and each prediction."""
    accepted, predicted = rule.accept(X), rule.predict(X)
    cells = [accepted & (of == c) for of in (y, predicted) for c in (0, 1)]
    return float(accepted.mean()), [float((predicted == y)[cell].mean()) for cell in cells if cell.any()]


@pytest.fixture(scope="module")
def in_pocket() -> dict[str, tuple[float, list[float]]]:
    X, y = pocket(4000, 16, seed=0)
    fresh = pocket(10_000, 16, seed=1)
    rules = {
        "softmax": MaxSoftmax(alpha=ALPHA),
        "sdm": Sdm(alpha=ALPHA),
        "certified softmax": Certified(MaxSoftmax(), alpha=ALPHA),
        "certified q'": Certified(Sdm(), alpha=ALPHA),
        "certified agreement": Certified(KnnAgreement(), alpha=ALPHA),
    }
    return {name: accuracies(rule.fit(X, y), *fresh) for name, rule in rules.items()}


def test_a_sure_and_wrong_pocket_fools_the_softmax(in_pocket) -> None:
    share, cells = in_pocket["softmax"]
    assert share > 0.01
    assert min(cells) < 0.9
    assert in_pocket["certified softmax"][0] == 0  # certification sees it, and has nothing left


@pytest.mark.parametrize("name", ["sdm", "certified q'", "certified agreement"])
def test_what_looks_at_neighbours_is_right_in_and_out_of_the_pocket(in_pocket, name) -> None:
    share, cells = in_pocket[name]
    assert share > (0.005 if name == "sdm" else 0.5)
    assert len(cells) == 4
    assert min(cells) >= ALPHA


def test_random_labels_are_not_accepted() -> None:
    rng = np.random.default_rng(0)
    X, y, fresh = rng.normal(size=(400, 576)), rng.integers(0, 2, 400), rng.normal(size=(2000, 576))
    assert MaxSoftmax(alpha=ALPHA).fit(X, y).accept(fresh).mean() > 0.2  # an over-fitted probe is sure of itself
    assert Sdm(alpha=ALPHA).fit(X, y).accept(fresh).mean() <= 0.005
    assert Certified(Sdm(), alpha=0.9).fit(X, y).accept(fresh).mean() == 0


def test_rows_far_from_the_support_are_rejected_as_far_and_d_falls_with_distance() -> None:
    X, y = gaussians(2000, 16, seed=0)
    fresh, _ = gaussians(5000, 16, seed=1)
    frozen = LogisticRegression().fit(X[:, :1], y)
    rule = Sdm(Frozen(frozen), alpha=ALPHA).fit(X, y)
    seen = [rule.diagnose(off_support(fresh, by)) for by in (0, 1, 2, 4, 6)]
    means = [s.d.mean() for s in seen]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.01
    assert all((s.predicted == seen[0].predicted).all() for s in seen)  # the probe cannot tell
    moved = off_support(fresh, 6)
    assert rule.accept(moved).mean() <= 0.01
    assert (rule.reasons(moved) == "far from the data").mean() > 0.95
    assert MaxSoftmax(Frozen(frozen), alpha=ALPHA).fit(X, y).accept(moved).mean() > 0.5


class Frozen(FrozenEstimator):
    """A classifier of the first column, given all."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return self.estimator.decision_function(X[:, :1])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.estimator.predict_proba(X[:, :1])


def test_another_rule_on_the_same_rows_cannot_be_seen() -> None:
    X, y = gaussians(2000, 16, seed=0)
    fresh, labels = gaussians(10_000, 16, seed=1)
    rule = Certified(Sdm(), alpha=ALPHA).fit(X, y)
    accepted, predicted = rule.accept(fresh), rule.predict(fresh)
    assert (predicted == labels)[accepted].mean() >= ALPHA
    assert (predicted == flipped(fresh, labels))[accepted].mean() < 0.85


def test_under_another_class_balance_the_cells_are_those_that_bayes_gives() -> None:
    """Accuracy within a class does not change with its share; that within a prediction follows from both."""
    X, y = gaussians(4000, 4, seed=0)
    rule = MaxSoftmax(alpha=ALPHA).fit(X, y)
    even_X, even_y = gaussians(100_000, 4, seed=1)
    rare_X, rare_y = gaussians(100_000, 4, seed=2, positive=0.05)
    accepts = lambda X, y, c: (rule.accept(X) & (rule.predict(X) == 1))[y == c].mean()  # noqa: E731
    hit, false = accepts(even_X, even_y, 1), accepts(even_X, even_y, 0)
    pi = rare_y.mean()
    accepted = rule.accept(rare_X) & (rule.predict(rare_X) == 1)
    n, right = int(accepted.sum()), int(rare_y[accepted].sum())
    expected = pi * hit / (pi * hit + (1 - pi) * false)
    lo, hi = binom.interval(0.999, n, expected)
    assert lo <= right <= hi
    assert right / n < ALPHA  # and so the promise made on balanced rows is not kept


def test_many_dimensions_end_the_runs_and_a_supervised_map_brings_them_back() -> None:
    X, y = gaussians(4000, 128, seed=0)
    fresh = gaussians(10_000, 128, seed=1)[0]
    plain, mapped = (Sdm(alpha=ALPHA, space=space).fit(X, y) for space in (None, PLSRegression(8)))
    assert mapped.diagnose(fresh).q.mean() > 2 * plain.diagnose(fresh).q.mean()
    assert mapped.accept(fresh).mean() > 2 * plain.accept(fresh).mean()


def test_no_distance_means_even_odds_and_the_same_label() -> None:
    X, y = gaussians(600, 4, seed=0)
    rule = Sdm().fit(X, y)
    far = off_support(X, 50)
    assert (rule.diagnose(far).d == 0).all()
    assert np.abs(rule.predict_proba(far) - 0.5).max() < 1e-3
    assert (rule.predict(far) == rule.classes_[rule.diagnose(far).predicted]).all()


def test_q_is_0_exactly_where_the_nearest_support_row_was_predicted_wrong_or_is_of_the_other_class() -> None:
    X, y = gaussians(600, 3, seed=0)
    rule, fresh = Sdm().fit(X, y), gaussians(500, 3, seed=1)[0]
    seen = rule.diagnose(fresh)
    nearest = seen.exemplars[:, 0]
    agrees = rule.right_[nearest] & (rule.labels_[nearest] == seen.predicted)
    assert ((seen.q > 0) == agrees).all()


def test_the_order_of_the_support_does_not_matter_but_for_the_indices() -> None:
    """Also with each row twice."""
    X, y = gaussians(400, 3, seed=0)
    X, y = np.repeat(X, 2, axis=0), np.repeat(y, 2)
    part = np.where(np.arange(800) < 400, "support", "calibrate")
    order = np.r_[np.random.default_rng(0).permutation(400), np.arange(400, 800)]
    frozen = FrozenEstimator(LogisticRegression().fit(X[:400], y[:400]))
    one, other = (Sdm(frozen, k=400).fit(X[i], y[i], part=part) for i in (np.arange(800), order))
    a, b = one.diagnose(X), other.diagnose(X)
    for name in ("q", "d", "probability", "q_prime", "level", "distances"):
        assert (getattr(a, name) == getattr(b, name)).all(), name
    assert (order[b.exemplars[:, 0]] // 2 == a.exemplars[:, 0] // 2).all()


def test_a_cap_on_neighbours_is_the_largest_q() -> None:
    X, y = gaussians(800, 2, seed=0)
    free, capped = (Sdm(k=k).fit(X, y).diagnose(X).q for k in (300, 10))
    assert free.max() > 10
    assert (capped == np.minimum(free, 10)).all()


def test_under_30_calibration_rows_of_a_class_nothing_is_accepted_and_one_warning_says_so() -> None:
    X, y = gaussians(100, 4, seed=0)
    with pytest.warns(TooFewRows, match="calibration rows of a class, 30 are needed") as caught:
        rule = Sdm().fit(X, y)
    assert len(caught) == 1
    assert set(rule.reasons(X)) == {"too few calibration rows"}


def test_too_few_rows_to_certify_are_counted_beforehand() -> None:
    X, y = gaussians(300, 4, seed=0)
    with pytest.warns(TooFewRows, match="certifying 0.95 needs at least 45 rows .* the rarer class has 3"):
        rule = Certified(alpha=0.95).fit(X, y)
    assert set(rule.reasons(X)) == {"class too rare"}


def test_certified_accuracy_is_missed_no_more_often_than_delta() -> None:
    """True accuracies are known from many fresh rows; `benchmarks/coverage_rates.py` asks the same of other scores."""
    fresh_X, fresh_y = gaussians(40_000, 3, seed=1)
    violated, accepts = 0, 0
    for seed in range(100):
        X, y = gaussians(700, 3, seed=1000 + seed)
        rule = Certified(MaxSoftmax(), alpha=0.95, delta=0.2, certify=0.4, seed=seed).fit(X, y)
        share, cells = accuracies(rule, fresh_X, fresh_y)
        violated += bool(cells) and min(cells) < 0.95
        accepts += share > 0
    assert accepts > 30
    assert violated <= binom.ppf(0.999, 100, 0.2)


def test_new_labelled_rows_extend_the_support_and_are_recorded() -> None:
    X, y = gaussians(1000, 4, seed=0)
    rule = Sdm(alpha=ALPHA).fit(X, y)
    new, labels = off_support(gaussians(400, 4, seed=2)[0], 8), gaussians(400, 4, seed=2)[1]
    assert (rule.diagnose(new).d == 0).all()
    before = rule.versions_[-1]
    rule.partial_fit(new, labels)
    assert rule.versions_[-1]["support"] == before["support"] + 400
    assert rule.versions_[-1]["sha256"] != before["sha256"]
    assert (rule.diagnose(new).d == 1).mean() > 0.9  # each is its own nearest row now
    with pytest.raises(ValueError, match="one label of"):
        rule.partial_fit(new, labels + 5)


def test_a_certificate_ends_when_the_support_grows() -> None:
    rule = Certified(Sdm(), alpha=ALPHA).fit(*gaussians(2000, 4, seed=0))
    fresh, labels = gaussians(500, 4, seed=1)
    assert rule.accept(fresh).any()
    rule.method_.partial_fit(fresh, labels)
    assert set(rule.reasons(fresh)) == {"the support has changed since"}


def test_exemplars_keep_the_ids_that_were_given() -> None:
    X, y = gaussians(600, 2, seed=0)
    ids = np.array([f"text {i}" for i in range(600)], dtype=object)
    rule = Sdm().fit(X, y, ids=ids)
    nearest = rule.ids_[rule.diagnose(rule.rows_[:5]).exemplars[:, 0]]
    assert [X[int(name.split()[1])].tolist() for name in nearest] == rule.rows_[:5].tolist()
    rule.partial_fit(*gaussians(3, 2, seed=1), ids=["new 0", "new 1", "new 2"])
    assert rule.ids_[-3:].tolist() == ["new 0", "new 1", "new 2"]


def test_variant_a_raises_the_least_q_by_its_spread_over_splits() -> None:
    X, y = gaussians(1500, 4, seed=0)
    plain, cautious = Sdm(alpha=ALPHA).fit(X, y), Sdm(alpha=ALPHA, splits=4).fit(X, y)
    q_mins = cautious.q_mins_
    assert len(q_mins) == 5
    assert q_mins[0] == plain.region_.q_min
    spread = np.median(np.abs(q_mins - np.median(q_mins)))
    assert spread > 0
    assert cautious.region_.q_min == pytest.approx(plain.region_.q_min + 6.3138 * spread, rel=1e-4)


def test_prototypes_shrink_the_support_and_keep_every_row_that_ends_a_run() -> None:
    X, y = pocket(3000, 4, seed=0)
    whole, small = Sdm(alpha=ALPHA).fit(X, y), Sdm(alpha=ALPHA, prototypes=200).fit(X, y)
    assert (~small.right_).sum() == (~whole.right_).sum()
    assert 100 < small.right_.sum() <= 202
    fresh, labels = pocket(5000, 4, seed=1)
    accepted = small.accept(fresh)
    assert accepted.mean() < whole.accept(fresh).mean()
    assert (small.predict(fresh) == labels)[accepted].mean() > ALPHA


def test_an_error_among_the_surest_rows_does_not_end_the_sequence_before_it_began() -> None:
    """The sequence starts where calibration rows convince most, not at the strictest threshold."""
    confidence = np.linspace(0, 1, 400)
    y = np.arange(400) % 2
    wrong = confidence > 0.985  # the surest rows of all
    both = Predictions(confidence, np.where(wrong, 1 - y, y), y)
    tried = cuts(both, 0.9)
    assert tried == sorted(tried, reverse=True)
    assert tried[0] < 0.6
    assert threshold(tried, both, 0.9, 0.1) == 0.0
    assert expected_coverage(both, 0.9, 0.1) == 1.0
    assert doubt(both, 0.97, 0.9) > 0.1  # where it would have begun, and ended


def test_no_threshold_accepts_a_row_without_confidence() -> None:
    confidence = np.r_[np.full(200, -np.inf), np.linspace(1, 2, 200)]
    y = np.arange(400) % 2
    found = Predictions(confidence, y, y)
    assert min(cuts(found, 0.9)) >= 1
    assert expected_coverage(found, 0.9, 0.1) == 0.5


def test_certified_q_prime_never_accepts_far_rows_or_rows_whose_neighbour_disagrees() -> None:
    """Where all four cells would do without any gate: an easy task, on which every threshold is certified."""
    X, y = gaussians(2000, 4, seed=0)
    X[:, 0] *= 3
    rule = Certified(Sdm(), alpha=0.9).fit(X, y)
    fresh, _ = gaussians(2000, 4, seed=1)
    fresh[:, 0] *= 3
    far = off_support(fresh, 9)
    assert rule.accept(fresh).mean() > 0.85
    assert rule.accept(far).mean() == 0
    seen = rule.method_.diagnose(fresh)
    assert not rule.accept(fresh)[(seen.d <= 0.05) | (seen.q_prime < 1)].any()


def test_thresholds_to_try_do_not_come_from_the_certify_rows() -> None:
    X, y = gaussians(1500, 3, seed=0)
    part = np.repeat(np.array(["support", "calibrate", "certify"], dtype=object), 500)
    other, other_y = X.copy(), y.copy()
    other[1000:], other_y[1000:] = gaussians(500, 3, seed=9)
    one, another = (Certified(alpha=ALPHA).fit(*rows, part=part) for rows in ((X, y), (3 * other, other_y)))
    assert one.cuts_ != another.cuts_  # another support gives other ones, so that equal ones would say something
    other[:1000] = X[:1000]
    again = Certified(alpha=ALPHA).fit(other, other_y, part=part)
    assert again.cuts_ == one.cuts_


def test_rows_of_one_group_are_one_trial() -> None:
    """Twelve stories told forty times each certify nothing, however right they are; as many single rows do."""
    X, y = gaussians(1200, 3, seed=0)
    X[:, 0] += 6 * (2 * y - 1)  # no error anywhere
    part = np.repeat(np.array(["support", "calibrate", "certify"], dtype=object), [300, 300, 600])
    stories = np.r_[np.arange(600), 600 + np.arange(600) % 12]
    assert np.isfinite(Certified(alpha=0.9).fit(X, y, part=part).threshold_)
    with pytest.warns(TooFewRows, match="at least 22 rows without an error"):
        told = Certified(alpha=0.9).fit(X, y, part=part, groups=stories)
    assert np.isinf(told.threshold_)
    assert not told.accept(X).any()
    copies = X.copy()
    copies[600:] = copies[600:612][np.arange(600) % 12]
    labels = np.r_[y[:600], y[600:612][np.arange(600) % 12]]
    with pytest.warns(TooFewRows, match="at least 22 rows"):
        assert not Certified(alpha=0.9).fit(copies, labels, part=part).accept(copies).any()


@pytest.mark.parametrize("select", [Certified, Sgr])
def test_no_selection_accepts_a_row_that_has_no_confidence(select: type) -> None:
    X, y = gaussians(2000, 3, seed=0)
    X[:, 0] += 6 * (2 * y - 1)
    rule = select(GatedConfidence(), alpha=0.9).fit(X, y)
    assert rule.accept(X).mean() > 0.8
    assert not rule.accept(off_support(X, 30)).any()


def test_a_certificate_ends_also_when_a_support_inside_grows_and_calibration_rows_cannot_join_it() -> None:
    rule = Certified(GatedConfidence(method=Sdm()), alpha=0.9).fit(*gaussians(2000, 3, seed=0))
    fresh, labels = gaussians(300, 3, seed=1)
    assert rule.accept(fresh).any()
    inner = rule.method_.method_
    before = len(inner.rows_)
    mixed, said = (
        np.concatenate([inner.calibrate_.rows[:3], fresh[:1]]),
        np.r_[inner.calibrate_.target_n[:3], labels[0]],
    )
    with pytest.warns(CalibrationRows, match="3 of 4 rows are calibration rows"):
        inner.partial_fit(mixed, said)
    assert len(inner.rows_) == before + 1
    assert set(rule.reasons(fresh)) == {"the support has changed since"}


@pytest.mark.parametrize("share", [0.2, 0.25, 0.35, 0.4, 0.5, 0.7])
def test_a_part_gets_the_share_it_was_promised(share: float) -> None:
    y = np.arange(1000) % 2
    assert split(y, share, seed=0).mean() == pytest.approx(share, abs=0.01)
    assert split(y, share, 0, groups=np.arange(1000) // 4).mean() == pytest.approx(share, abs=0.03)
