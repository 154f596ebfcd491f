"""Every other method against another library, a formula written out, or rows whose answer is known."""

import crepes
import numpy as np
import pytest
import venn_abers
from mapie.classification import SplitConformalClassifier
from scipy.optimize import isotonic_regression
from scipy.special import expit
from scipy.stats import norm
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from theodolite.calibration.beta import Beta
from theodolite.calibration.conditional_conformal import ConditionalConformal, _regions
from theodolite.calibration.conformal import Conformal, nonconformity
from theodolite.calibration.gated import GatedConfidence
from theodolite.calibration.isotonic import Isotonic
from theodolite.calibration.knn_agreement import KnnAgreement
from theodolite.calibration.knn_distance import KnnDistance
from theodolite.calibration.mahalanobis import Mahalanobis
from theodolite.calibration.sgr import Sgr
from theodolite.calibration.temperature import Temperature
from theodolite.calibration.trust_score import TrustScore
from theodolite.calibration.venn_abers import VennAbers
from theodolite.toys.selective import gaussians, off_support

X, Y = gaussians(900, 5, seed=0)
FRESH, FRESH_Y = gaussians(400, 5, seed=1)
PART = np.where(np.arange(900) < 500, "support", "calibrate")
CAL = slice(500, None)
PROBE = LogisticRegression().fit(X[:500], Y[:500])


def test_isotonic_equals_scikit_learns() -> None:
    ours = Isotonic(FrozenEstimator(PROBE)).fit(X, Y, part=PART)
    theirs = CalibratedClassifierCV(FrozenEstimator(PROBE), method="isotonic", ensemble=False).fit(X[CAL], Y[CAL])
    assert ours.predict_proba(FRESH)[:, 1] == pytest.approx(theirs.predict_proba(FRESH)[:, 1], abs=2e-3)


def test_temperature_equals_a_logistic_regression_on_the_score_without_intercept() -> None:
    """Its one coefficient is 1 / T. scikit-learn has a method of this name from 1.8 on, its floor here is 1.6."""
    ours = Temperature(FrozenEstimator(PROBE)).fit(X, Y, part=PART)
    score, fresh = PROBE.decision_function(X)[:, None], PROBE.decision_function(FRESH)[:, None]
    theirs = LogisticRegression(C=1e12, fit_intercept=False, tol=1e-9).fit(score[CAL], Y[CAL])
    assert 1 / ours.temperature_ == pytest.approx(float(theirs.coef_[0, 0]), rel=1e-4)
    assert ours.predict_proba(FRESH)[:, 1] == pytest.approx(theirs.predict_proba(fresh)[:, 1], abs=1e-5)


def test_beta_finds_the_map_that_was_planted() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(scale=3, size=40_000)
    p = expit(score)
    truth = expit(0.5 * np.log(p) - 2.0 * np.log1p(-p) + 0.7)
    y = (rng.random(40_000) < truth).astype(int)
    part = np.where(np.arange(40_000) < 10, "support", "calibrate")
    y[:2] = 0, 1
    rule = Beta(FrozenEstimator(Itself().fit(score[:10, None], y[:10]))).fit(score[:, None], y, part=part)
    assert rule.abc_[0] == pytest.approx(0.5, abs=0.08)
    assert (
        np.abs(rule.predict_proba(score[:, None])[:, 1] - truth).max() < 0.02
    )  # the three trade off, the map does not


class Itself(LogisticRegression):
    """Whose score is the one column."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(X)[:, 0]


def test_venn_abers_equals_its_definition_and_the_reference_library() -> None:
    rule = VennAbers(FrozenEstimator(PROBE)).fit(X, Y, part=PART)
    score, fresh = PROBE.decision_function(X[CAL]).round(1), PROBE.decision_function(FRESH).round(1)  # with ties
    order = np.argsort(score, kind="stable")
    rule.scores_, rule.targets_ = score[order], Y[CAL][order].astype(float)
    p0, p1 = rule._both(fresh)
    for y, found in ((0.0, p0), (1.0, p1)):
        for i in range(0, 400, 37):
            _, inverse = np.unique(np.append(score, fresh[i]), return_inverse=True)
            labels = np.append(Y[CAL], y)
            weights = np.bincount(inverse).astype(float)
            fitted = isotonic_regression(np.bincount(inverse, labels) / weights, weights=weights).x
            assert found[i] == pytest.approx(fitted[inverse[-1]], abs=1e-12)
    library = venn_abers.VennAbers()
    proba = PROBE.predict_proba(X[CAL])
    library.fit(proba, Y[CAL])
    _, both = library.predict_proba(PROBE.predict_proba(FRESH))
    ours = VennAbers(FrozenEstimator(PROBE)).fit(X, Y, part=PART)._both(PROBE.decision_function(FRESH))
    assert np.column_stack(ours) == pytest.approx(both, abs=1e-6)
    assert (ours[0] <= ours[1]).all()


def test_class_conditional_p_values_equal_crepes() -> None:
    rule = Conformal(FrozenEstimator(PROBE), within="class").fit(X, Y, part=PART)
    wrapped = crepes.WrapClassifier(FrozenEstimator(Scaled(PROBE, rule.temperature_)))
    wrapped.calibrate(X[CAL], Y[CAL], class_cond=True)
    assert rule.p_values(FRESH) == pytest.approx(wrapped.predict_p(FRESH, smoothing=False), abs=1e-9)


def test_split_conformal_sets_equal_mapie_s() -> None:
    rule = Conformal(FrozenEstimator(PROBE), within="all", alpha=0.9).fit(X, Y, part=PART)
    scaled = FrozenEstimator(Scaled(PROBE, rule.temperature_))
    library = SplitConformalClassifier(scaled, confidence_level=0.9, prefit=True, conformity_score="lac")
    _, sets = library.conformalize(X[CAL], Y[CAL]).predict_set(FRESH)
    assert (rule.sets(FRESH) == sets[:, :, 0]).all()


class Scaled(LogisticRegression):
    """A probe at another temperature."""

    def __init__(self, probe: LogisticRegression, temperature: float) -> None:
        self.probe, self.temperature = probe, temperature
        self.classes_ = probe.classes_

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        positive = expit(self.probe.decision_function(X) / self.temperature)
        return np.column_stack([1 - positive, positive])


@pytest.mark.parametrize("within", ["all", "class", "prediction"])
def test_sets_hold_the_label_as_often_as_promised(within) -> None:
    held = []
    for seed in range(60):
        rows, labels = gaussians(500, 3, seed=100 + seed)
        rule = Conformal(alpha=0.9, within=within, seed=seed).fit(rows, labels)
        fresh, truth = gaussians(500, 3, seed=5000 + seed)
        in_set = rule.p_values(fresh)[np.arange(500), truth] > 0.1
        kind = {"all": np.zeros(500, int), "class": truth, "prediction": rule.predict(fresh)}[within]
        held.append([in_set[kind == c].mean() for c in np.unique(kind)])
    assert np.mean(held, axis=0) == pytest.approx(0.9, abs=0.015)


def test_conditional_coverage_with_one_region_is_split_conformal_and_within_predictions_holds() -> None:
    rows, labels = gaussians(240, 2, seed=3)
    one = ConditionalConformal(n_clusters=1, alpha=0.9).fit(rows, labels)
    mondrian = Conformal(alpha=0.9, within="prediction").fit(rows, labels)
    fresh = gaussians(60, 2, seed=4)[0]
    assert (one.sets(fresh) == (mondrian.p_values(fresh) > 0.1)).mean() > 0.98  # ties at the threshold aside
    held = []
    for seed in range(25):
        rule = ConditionalConformal(n_clusters=2, alpha=0.8, seed=seed).fit(*gaussians(160, 2, seed=seed))
        fresh, truth = gaussians(40, 2, seed=900 + seed)
        held.append(rule.sets(fresh)[np.arange(40), truth])
    assert 0.77 < np.mean(held) < 0.9


def test_a_gate_lets_through_nearly_all_rows_like_those_it_was_set_on_and_none_far_away() -> None:
    for rule in (KnnDistance(), Mahalanobis(), Mahalanobis(relative=True)):
        rule.fit(X, Y)
        assert (rule.reasons(FRESH) == "far from the data").mean() == pytest.approx(0.05, abs=0.04)
        if not getattr(rule, "relative", False):
            assert (rule.reasons(off_support(FRESH, 8)) == "far from the data").all()


def test_distances_and_shares_are_those_written_out() -> None:
    part = np.where(np.arange(900) < 500, "support", "calibrate")
    support, labels = X[:500], Y[:500]
    distance = np.linalg.norm(FRESH[:, None] - support[None], axis=2)
    order = np.argsort(distance, axis=1)
    predicted = PROBE.predict(FRESH)
    frozen = FrozenEstimator(PROBE)
    agreement = KnnAgreement(frozen, k=50).fit(X, Y, part=part).confidence(FRESH)
    assert agreement == pytest.approx((labels[order[:, :50]] == predicted[:, None]).mean(1))
    reach = -KnnDistance(frozen, k=10).fit(X, Y, part=part).confidence(FRESH)
    assert reach == pytest.approx(np.sort(distance, axis=1)[:, 9])
    trust = TrustScore(frozen).fit(X, Y, part=part).confidence(FRESH)
    nearest = np.column_stack([distance[:, labels == c].min(1) for c in (0, 1)])
    n = np.arange(len(predicted))
    assert trust == pytest.approx(nearest[n, 1 - predicted] / nearest[n, predicted])
    means = [support[labels == c].mean(0) for c in (0, 1)]
    far = -Mahalanobis(frozen).fit(X, Y, part=part).confidence(FRESH)
    euclid = np.min([((FRESH - m) ** 2).sum(1) for m in means], axis=0)
    assert np.corrcoef(far, euclid)[0, 1] > 0.98  # unit noise: the covariance is nearly the identity


def test_mahalanobis_tells_far_rows_where_there_are_more_columns_than_rows() -> None:
    rows, labels = gaussians(200, 400, seed=0)
    rule = Mahalanobis().fit(rows, labels)
    fresh = gaussians(300, 400, seed=1)[0]
    near, far = rule.confidence(fresh), rule.confidence(off_support(fresh, 8))
    # unit noise in 400 axes: squared distances of mean 400 and 464, standard deviations 28 and 32
    assert (near[:, None] > far[None]).mean() == pytest.approx(norm.cdf(64 / np.hypot(28, 32)), abs=0.02)


def test_trimmed_trust_scores_do_not_depend_on_the_outliers_that_were_left_out() -> None:
    rows, labels = X[:400].copy(), Y[:400].copy()
    rows[:5], labels[:5] = FRESH[0], 1 - PROBE.predict(FRESH[:1])[0]
    rows[:5] += 30 * np.eye(5)
    part = np.where(np.arange(900) < 400, "support", "calibrate")
    everything = np.concatenate([rows, X[400:]]), np.concatenate([labels, Y[400:]])
    frozen = FrozenEstimator(PROBE)
    plain, trimmed = (TrustScore(frozen, trim=t).fit(*everything, part=part) for t in (0.0, 0.1))
    there = FRESH[:1] + 30 * np.eye(5)[:1]
    assert plain.confidence(there)[0] != pytest.approx(trimmed.confidence(there)[0])
    assert len(trimmed.classes_support_[0]) < len(plain.classes_support_[0])


def test_sgr_keeps_the_error_among_accepted_below_its_bound() -> None:
    fresh, truth = gaussians(40_000, 3, seed=1)
    worse = 0
    for seed in range(60):
        rule = Sgr(alpha=0.96, delta=0.1, seed=seed).fit(*gaussians(800, 3, seed=2000 + seed))
        accepted = rule.accept(fresh)
        worse += bool(accepted.any()) and (rule.predict(fresh) != truth)[accepted].mean() > 0.04
    assert worse <= 13  # 6 expected at most; 13 or more come in 1 of 200


def test_a_limit_sought_once_per_region_gives_the_sets_of_one_programme_per_label() -> None:
    rows, labels = gaussians(200, 2, seed=5)
    rule = ConditionalConformal(n_clusters=3, alpha=0.85).fit(rows, labels)
    part = rule._part(gaussians(40, 2, seed=6)[0])
    regions = _regions(part.predicted_n, rule._clusters(part), 3)
    strange = nonconformity(rule._probability(part))
    one_by_one = [[rule._holds(s, region) for s in row] for row, region in zip(strange, regions, strict=True)]
    assert (rule._sets(part) == np.array(one_by_one)).all()
    assert 0 < np.mean(one_by_one) < 1


def test_a_gate_takes_the_confidence_of_far_rows_and_of_no_others() -> None:
    gated = GatedConfidence(FrozenEstimator(PROBE), method=KnnAgreement(), gate=KnnDistance()).fit(X, Y, part=PART)
    alone = KnnAgreement(FrozenEstimator(PROBE)).fit(X, Y, part=PART)
    gate = KnnDistance(FrozenEstimator(PROBE)).fit(X, Y, part=PART)
    far = gate.reasons(FRESH) == "far from the data"
    assert 0 < far.mean() < 0.15
    assert (gated.confidence(FRESH)[far] == -np.inf).all()
    assert (gated.confidence(FRESH)[~far] == alone.confidence(FRESH)[~far]).all()
    assert (gated.reasons(FRESH)[~far] == alone.reasons(FRESH)[~far]).all()
