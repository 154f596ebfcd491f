import time

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from theodolite.core.bootstrap import bootstrap_weights
from theodolite.core.metrics import augrc, aurc, auroc, average_precision, brier, ece, rate_above, threshold_at

# Twelve rows, worked by hand. One positive and one negative are tied at .5.
POSITIVE = [0.9, 0.8, 0.7, 0.6, 0.5, 0.3]
NEGATIVE = [0.75, 0.55, 0.5, 0.2, 0.1, 0.05]
Y = np.array([1] * 6 + [0] * 6)
P = np.array(POSITIVE + NEGATIVE)


def test_twelve_rows_by_hand() -> None:
    assert auroc(Y, P) == pytest.approx((6 + 6 + 5 + 5 + 3.5 + 3) / 36)
    assert average_precision(Y, P) == pytest.approx((1 / 1 + 2 / 2 + 3 / 4 + 4 / 5 + 5 / 8 + 6 / 9) / 6)
    assert brier(Y, P) == pytest.approx((1.04 + 1.1675) / 12)
    assert ece(Y, P, bins=3) == pytest.approx((0.0875 + 0.0375 + 0.0375) / 3)  # four rows a bin
    assert rate_above(Y, P, 0.55, label=1) == pytest.approx(4 / 6)
    assert rate_above(Y, P, 0.55, label=0) == pytest.approx(1 / 6)  # .55 itself is not above


def test_within_counts_only_pairs_of_one_template() -> None:
    y = np.array([1, 1, 0, 0, 1, 1, 0, 0])
    s = np.array([0.9, 0.8, 0.85, 0.7, 0.3, 0.2, 0.25, 0.1])  # the second template lowers every score by .6
    template = np.repeat(["a", "b"], 4)
    assert auroc(y, s, within=template) == pytest.approx(3 / 4)
    assert auroc(y, s) == pytest.approx(10 / 16)
    assert auroc(y, s, within=np.zeros(8)) == auroc(y, s)


def test_within_weighs_templates_by_their_pairs() -> None:
    y = np.array([1, 1, 1, 0, 1, 0])
    s = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 1.0])  # three pairs in order in a, one out of order in b
    assert auroc(y, s, within=np.array(list("aaaabb"))) == pytest.approx(3 / 4)


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_values_agree_with_scikit_learn(ties: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    p = 1 / (1 + np.exp(-rng.normal(y - 0.5, 1)))
    p = np.round(p, 1) if ties else p
    for w in (None, rng.exponential(size=300), rng.integers(0, 3, 300)):
        assert auroc(y, p, w) == pytest.approx(sklearn_metrics.roc_auc_score(y, p, sample_weight=w))
        assert average_precision(y, p, w) == pytest.approx(
            sklearn_metrics.average_precision_score(y, p, sample_weight=w)
        )
        assert brier(y, p, w) == pytest.approx(sklearn_metrics.brier_score_loss(y, p, sample_weight=w))


def everything(y: np.ndarray, p: np.ndarray, w: np.ndarray | None = None) -> np.ndarray:
    template = np.arange(len(y)) % 5
    values = [f(y, p, w) for f in (auroc, average_precision, brier, ece)]
    return np.array([*values, auroc(y, p, w, within=template), *(rate_above(y, p, 0.5, label, w) for label in (0, 1))])


def test_a_batch_of_weights_is_the_loop_over_it() -> None:
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 60), np.round(rng.random(60), 1)
    w = rng.exponential(size=(7, 60))
    np.testing.assert_allclose(everything(y, p, w), np.stack([everything(y, p, row) for row in w], axis=1))


def test_integer_weights_are_repeated_rows() -> None:
    rng = np.random.default_rng(2)
    y, s, times = rng.integers(0, 2, 40), rng.random(40), rng.integers(0, 4, 40)
    again = np.repeat(np.arange(40), times)
    for metric in (auroc, average_precision, brier):
        assert metric(y, s, times) == pytest.approx(metric(y[again], s[again]))


def test_unscored_rows_are_left_out() -> None:
    rng = np.random.default_rng(3)
    y, p, w = rng.integers(0, 2, 50), rng.random(50), rng.exponential(size=(4, 50))
    template = np.arange(50) % 5
    missing = p.copy()
    missing[::7] = np.nan
    keep = ~np.isnan(missing)
    for metric in (auroc, average_precision, brier, ece):
        np.testing.assert_allclose(metric(y, missing, w), metric(y[keep], p[keep], w[:, keep]))
    within = auroc(y, missing, w, within=template)
    np.testing.assert_allclose(within, auroc(y[keep], p[keep], w[:, keep], within=template[keep]))


def test_one_class_or_no_rows_is_nan_without_a_warning() -> None:
    ones, nothing = np.ones(5, int), np.full(5, np.nan)
    assert np.isnan(auroc(ones, np.arange(5.0)))
    assert np.isnan(average_precision(ones * 0, np.arange(5.0)))
    assert np.isnan(rate_above(ones, np.arange(5.0), 0.5, label=0))
    assert all(np.isnan(metric(ones, nothing)) for metric in (auroc, average_precision, brier, ece))


def test_ece_keeps_equal_probabilities_together() -> None:
    y = np.array([1, 0] * 10)
    assert ece(y, np.full(20, 0.5)) == pytest.approx(0.0)  # split by row order, ten bins would show .5
    assert ece(y, np.full(20, 0.8)) == pytest.approx(0.3)


def test_threshold_lets_at_most_its_share_of_training_negatives_through() -> None:
    rng = np.random.default_rng(4)
    negatives = np.round(rng.normal(size=400), 1)  # many ties: the share may fall short of 5 %, never pass it
    threshold = threshold_at(negatives, 0.05)
    assert threshold is not None
    assert np.mean(negatives > threshold) <= 0.05
    assert np.mean(negatives >= threshold) > 0.05
    assert threshold_at(np.append(negatives, np.nan), 0.05) == threshold
    assert threshold_at(negatives[:199], 0.05) is None  # 9.95 rows
    assert threshold_at(np.arange(400.0), 0.05) == 379  # 20 of them lie above, none could more


def test_two_thousand_replicates_of_eight_hundred_rows_take_a_tenth_of_a_second() -> None:
    rng = np.random.default_rng(5)
    y, s = rng.integers(0, 2, 800), rng.normal(size=800)
    w = bootstrap_weights(np.arange(800), n_boot=2000)

    def seconds() -> float:
        start = time.perf_counter()
        auroc(y, s, w)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.1


def test_augrc_is_what_auroc_and_accuracy_make_of_it_also_with_ties_and_weights() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.8
    confidence = np.round(rng.normal(size=400) + right, 1)
    signed = np.where(right, 1, -1) * (np.unique(confidence, return_inverse=True)[1] + 1)
    w = rng.exponential(size=(3, 400))
    accuracy = (w * right).sum(1) / w.sum(1)
    expected = (1 - auroc(right.astype(int), confidence, w)) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert augrc(np.zeros(400), signed, w) == pytest.approx(expected, rel=1e-9)
    assert augrc(np.zeros(400), signed) == pytest.approx(augrc(np.zeros(400), signed, np.ones((1, 400)))[0])


def test_aurc_is_the_mean_error_among_the_first_k() -> None:
    rng = np.random.default_rng(0)
    right, order = rng.random(50) < 0.7, rng.permutation(50) + 1
    by_hand = np.mean([(~right)[np.argsort(-order)][:k].mean() for k in range(1, 51)])
    assert aurc(np.zeros(50), np.where(right, order, -order)) == pytest.approx(by_hand)
    assert np.isnan(aurc(np.zeros(2), np.full(2, np.nan)))
