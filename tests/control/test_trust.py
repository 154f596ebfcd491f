"""Selective steering on planted populations: known answers of the full rule, and the laws of its parts."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from theodolite.calibration.certified import p_value
from theodolite.control.certified_moves import cuts, lower_limit, moves, threshold
from theodolite.control.moves import left_support, random_widths, right_moves
from theodolite.control.nulls import band
from theodolite.control.trust import (
    ACCEPT_ALL,
    NOT_STEERABLE,
    NOTHING,
    SELECTED,
    TEST,
    Prompts,
    SelectiveSteering,
    select_steering,
)
from theodolite.control.trust_figures import ALL, MARGIN, NGRAMS, accuracy_gain, baseline_scores, facts, figures, rows
from theodolite.core.calibrator import CALIBRATE, CERTIFY, SUPPORT, Predictions
from theodolite.core.errors import UserError
from theodolite.core.run_tables import ROW_COLUMNS, typed

ALPHA, DELTA, D = 0.9, 0.1, 6
CERTIFIED = 1  # a draw of the reversed population whose rule is certified; about one in five is not
Array = np.ndarray


def planted(kind: str, n: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """States (n, d), true shares of right moves (n,), and which prompts belong to the planted half (n,)."""
    state, half = rng.normal(size=(n, D)), rng.random(n) < 0.5
    if kind == "reversed":  # the half whose sign is reversed lies apart in one direction of the state
        state[:, 0] += np.where(half, 3, -3)
        return state, np.where(half, 0.03, 0.97), half
    if kind == "graded":  # no gap: wherever a threshold lies, some prompts beyond it are not safe
        return state, 1 / (1 + np.exp(-4 * state[:, 0])), half
    return (
        state,
        np.full(n, {"homogeneous": 0.97, "below": 0.89, "random": 0.5, "weak": 0.1, "middling": 0.86}[kind]),
        half,
    )


def prompts_of(state: Array, group: Array | None = None) -> Prompts:
    n = len(state)
    return Prompts(state, state[:, 1], [f"prompt {i}" for i in range(n)], np.arange(n) if group is None else group)


def drawn(kind: str, seed: int, n: int = 500) -> tuple[SelectiveSteering, Prompts, np.random.Generator]:
    """The full rule on one draw of a population; the generator goes on to draw fresh prompts of it."""
    rng = np.random.default_rng([seed, len(kind)])
    state, share, _ = planted(kind, n, rng)
    prompts = prompts_of(state)
    return select_steering(rng.random(n) < share, prompts, alpha=ALPHA, delta=DELTA, seed=seed), prompts, rng


def over_draws(kind: str, n_draws: int, n: int = 500) -> tuple[float, float, int, int]:
    """(share of the planted half rejected, share of all rejected, draws that accept, violations) on fresh prompts."""
    of_half, of_all, accepts, violations = [], [], 0, 0
    for seed in range(n_draws):
        found, _, rng = drawn(kind, seed, n)
        state, share, half = planted(kind, 2000, rng)
        accepted = found.accept(state)
        of_half.append((~accepted[half]).mean())
        of_all.append((~accepted).mean())
        accepts += bool(accepted.any())
        violations += bool(accepted.any() and share[accepted].mean() < ALPHA)
    return float(np.mean(of_half)), float(np.mean(of_all)), accepts, violations


def check_reversed(n_draws: int) -> None:
    of_half, _, accepts, violations = over_draws("reversed", n_draws)
    assert of_half >= 0.95
    assert accepts >= n_draws / 2  # rejecting everything would pass the line above
    assert lower_limit(violations, n_draws, 0.025) <= DELTA


def check_guarantee(n_draws: int) -> None:
    _, _, accepts, violations = over_draws("graded", n_draws, 800)
    assert accepts >= n_draws / 2
    assert lower_limit(violations, n_draws, 0.025) <= DELTA


def check_just_below(n_draws: int) -> None:
    """Whatever is accepted is a violation here, of accepting all or of a threshold: both certificates meet it."""
    _, _, accepts, violations = over_draws("below", n_draws)
    assert violations == accepts
    assert lower_limit(violations, n_draws, 0.025) <= DELTA


def check_random(n_draws: int) -> None:
    assert over_draws("random", n_draws)[2] == 0


def test_a_half_with_reversed_sign_is_rejected() -> None:
    check_reversed(10)


def test_a_homogeneous_population_is_accepted_over_100_draws() -> None:
    _, of_all, _, violations = over_draws("homogeneous", 100)
    assert of_all <= 0.1
    assert lower_limit(violations, 100, 0.025) <= DELTA


def test_the_guarantee_holds_where_no_gap_separates_right_from_wrong() -> None:
    check_guarantee(8)


def test_a_share_just_below_the_wanted_one_is_hardly_ever_accepted() -> None:
    check_just_below(10)


def test_random_labels_accept_nothing() -> None:
    check_random(4)


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_reversed, check_guarantee, check_just_below, check_random])
def test_known_answers_over_100_draws(check: Callable[[int], None]) -> None:
    check(100)


def test_few_right_moves_are_not_steerable() -> None:
    found, _, _ = drawn("weak", 0)
    assert found.verdict == NOT_STEERABLE
    assert not found.accepted_n.any()
    assert "of the development prompts" in found.why


def test_accepting_all_rests_on_clopper_and_pearson() -> None:
    found, _, _ = drawn("homogeneous", 3)
    assert found.verdict == ACCEPT_ALL
    assert found.accepted_n.all()
    assert found.certificate is not None
    certify = found.part_n == CERTIFY
    assert (found.certificate.right, found.certificate.n) == (found.outcome_n[certify].sum(), certify.sum())
    assert found.certificate.lower >= ALPHA


def test_two_certificates_on_the_same_prompts_share_delta() -> None:
    found, _, _ = drawn("middling", 1)
    assert found.development_share > 0.8
    assert found.verdict == NOTHING  # no information in the state, and .86 is below .9
    assert found.why.startswith("accepting all is not certified")
    assert found.certificate is not None
    assert found.certificate.delta == DELTA / 2


def test_the_limit_of_clopper_and_pearson_decides_as_the_p_value_does() -> None:
    # all right, n of n: the limit is delta^(1/n)
    assert lower_limit(22, 22, 0.1) == pytest.approx(0.1 ** (1 / 22))
    for right in range(80, 101):
        assert (lower_limit(right, 100, 0.1) >= 0.9) == (p_value(right, 100, 0.9) <= 0.1)


def test_thresholds_come_from_calibrate_and_stop_at_the_first_that_fails() -> None:
    confidence = np.repeat([0.9, 0.8, 0.7], 40)
    calibrate = Predictions(confidence, np.ones(120, int), np.repeat([1, 1, 0], 40))
    tried = cuts(calibrate, 0.9)
    assert tried == [0.8, 0.7]  # 80 of 80 right beat 40 of 40; the strictest comes before it and is left out
    certify = Predictions(confidence, np.ones(120, int), np.repeat([1, 1, 0], 40))
    assert threshold(tried, certify, 0.9, 0.1) == 0.8
    assert moves(certify, 0.7) == (80, 120)
    wrong = Predictions(confidence, np.ones(120, int), np.repeat([0, 1, 1], 40))
    assert threshold(tried, wrong, 0.9, 0.1) == np.inf


def test_certify_outcomes_alone_decide_the_threshold_and_test_outcomes_nothing() -> None:
    found, prompts, _ = drawn("reversed", CERTIFIED)
    assert found.verdict == SELECTED
    outcome = found.outcome_n.copy()
    outcome[found.part_n == TEST] = 1 - outcome[found.part_n == TEST]
    again = select_steering(outcome, prompts, alpha=ALPHA, delta=DELTA, seed=CERTIFIED)
    np.testing.assert_array_equal(again.accepted_n, found.accepted_n)
    outcome = found.outcome_n.copy()
    outcome[found.part_n == CERTIFY] = 1 - outcome[found.part_n == CERTIFY]
    spoilt = select_steering(outcome, prompts, alpha=ALPHA, delta=DELTA, seed=CERTIFIED)
    assert spoilt.verdict == NOTHING
    assert not spoilt.accepted_n.any()
    assert spoilt.learnt is not None
    assert (spoilt.learnt.confidence, spoilt.learnt.space) == (found.learnt.confidence, found.learnt.space)


def test_the_order_of_prompts_plays_no_part() -> None:
    found, prompts, rng = drawn("graded", 1)
    assert found.verdict == SELECTED
    mixed = rng.permutation(len(found.outcome_n))
    again = select_steering(found.outcome_n[mixed], prompts.at(mixed), alpha=ALPHA, delta=DELTA, seed=1)
    np.testing.assert_array_equal(again.part_n, found.part_n[mixed])
    np.testing.assert_array_equal(again.accepted_n, found.accepted_n[mixed])
    first, second = baseline_scores(found, prompts), baseline_scores(again, prompts.at(mixed))
    for name in (MARGIN, NGRAMS):
        np.testing.assert_array_equal(first[name][mixed], second[name])


def test_groups_stay_whole_and_give_one_prompt_to_a_certificate() -> None:
    rng = np.random.default_rng(5)
    state, share, _ = planted("homogeneous", 900, rng)
    group = np.repeat(np.arange(300), 3)
    found = select_steering(rng.random(900) < share, prompts_of(state, group))
    parts = pd.DataFrame({"group": group, "part": found.part_n})
    assert (parts[parts["part"] != ""].groupby("group")["part"].nunique() == 1).all()
    for name in (CERTIFY, TEST):
        assert parts[parts["part"] == name]["group"].is_unique
    for name in (SUPPORT, CALIBRATE):
        assert parts[parts["part"] == name]["group"].duplicated().any()


def test_prompts_without_an_outcome_take_no_part_and_are_counted() -> None:
    rng = np.random.default_rng(6)
    state, share, _ = planted("homogeneous", 400, rng)
    outcome = (rng.random(400) < share).astype(float)
    outcome[:50] = np.nan
    found = select_steering(outcome, prompts_of(state))
    assert (found.part_n[:50] == "").all()
    assert facts(found, figures(found, prompts_of(state)))["unscored"] == 50


def test_figures_at_equal_coverage() -> None:
    found, prompts, _ = drawn("reversed", CERTIFIED)
    measured = figures(found, prompts)
    test = found.part_n == TEST
    chosen = test & found.accepted_n
    accuracy = found.outcome_n[chosen].mean()
    assert measured.accuracy.value == accuracy
    assert measured.coverage.value == chosen.sum() / test.sum()
    assert set(measured.contrasts) == {ALL, MARGIN, NGRAMS}
    assert measured.contrasts[ALL].value == pytest.approx(accuracy - found.outcome_n[test].mean())
    # the other baselines choose as many prompts, those of their highest scores
    score = np.where(test, baseline_scores(found, prompts)[MARGIN], -np.inf)
    best = np.argsort(-score)[: chosen.sum()]
    assert measured.contrasts[MARGIN].value == pytest.approx(accuracy - found.outcome_n[best].mean())
    assert all(gain.lo > 0 for gain in measured.contrasts.values())  # margin and words know nothing here


def test_a_margin_that_knows_as_much_leaves_no_gain() -> None:
    rng = np.random.default_rng(9)
    state, share, _ = planted("reversed", 500, rng)
    prompts = Prompts(state, state[:, 0], [f"prompt {i}" for i in range(500)], np.arange(500))
    found = select_steering(rng.random(500) < share, prompts)
    assert found.verdict == SELECTED
    gain = figures(found, prompts).contrasts[MARGIN]
    assert gain.lo <= 0 <= gain.hi


def test_a_gain_by_hand() -> None:
    right = np.array([1, 1, 1, 0, 0, 0, 1, 0])
    ours, other = np.array([1, 1, 1, 1, 0, 0, 0, 0]) > 0, np.array([1, 1, 0, 0, 1, 1, 0, 0]) > 0
    found = accuracy_gain(right, ours, other, np.arange(8))
    assert found.value == 0.75 - 0.5
    assert found.lo < 0.25 < found.hi
    same = accuracy_gain(right, ours, ours, np.arange(8))
    assert (same.value, same.lo, same.hi) == (0, 0, 0)  # what both choose cancels
    sure = accuracy_gain(right, right == 1, np.ones(8, bool), np.arange(8))
    assert sure.lo <= 0.5 - (1 - 0.025 ** (1 / 4))  # no failure in four groups: a bootstrap alone would see none
    assert np.isnan(accuracy_gain(right, ours, ours & False, np.arange(8)).value)


def test_rows_and_facts_of_a_run() -> None:
    found, prompts, _ = drawn("reversed", CERTIFIED)
    measured, left = figures(found, prompts), left_support(prompts.state_nd, prompts.state_nd, prompts.state_nd + 9)
    shared = {"method": "difference_in_means", "dataset": "joy", "split": "+", "strength": 2.0, "nats": 0.1}
    frame = typed(pd.DataFrame(rows(found, measured, shared, left)), ROW_COLUMNS)
    assert set(frame["task"]) == {"trust-steer"}
    assert frame["metric"].to_list() == ["right_share", "coverage", *["accuracy"] * 4, "left_support"]
    assert frame["versus"].to_list() == ["", "", "", ALL, MARGIN, NGRAMS, ""]
    assert frame["value"].iloc[-1] == 1.0
    told = json.loads(json.dumps(facts(found, measured, budget=0.1, left=left), allow_nan=False))
    assert told["verdict"] == SELECTED
    assert told["left_support"]["after"] == 500
    assert sum(told["prompts"].values()) == 500


def test_cells_outside_the_contrasts_have_none() -> None:
    found, prompts, _ = drawn("homogeneous", 0)
    assert not found.contrasted
    assert figures(found, prompts).contrasts == {}


def test_a_right_move_beats_the_prompts_own_band() -> None:
    rng = np.random.default_rng(0)
    random = rng.normal(size=(100, 3)) * [1.0, 1.0, 10.0]
    width = random_widths(random)
    effect = np.array([5.0, -5.0, 5.0])
    assert right_moves(effect, 1, width).tolist() == [1, 0, 0]  # the third prompt moves as far at random
    assert right_moves(effect, -1, width).tolist() == [0, 1, 0]
    # the band of the mean over prompts is narrower than that of single ones
    assert band(random[:, :2].mean(1)).width < width[:2].min()
    assert right_moves(effect, 1, band(random[:, 0])).tolist() == [1, 0, 1]
    assert np.isnan(right_moves(effect, 1, width, nats=0.2, budget=0.1)).all()


def test_states_that_leave_the_support_are_counted() -> None:
    rng = np.random.default_rng(1)
    training, before = rng.normal(size=(400, 4)), rng.normal(size=(100, 4))
    after = before.copy()
    after[:30] += 20
    found = left_support(training, before, after)
    assert found.before <= 5  # about 1 in 100 by its definition
    assert found.after_n[:30].all()
    assert found.after == 30 + left_support(training, before[30:], before[30:]).before


@pytest.mark.parametrize(
    ("outcome", "changes", "message"),
    [
        (np.full(200, 2.0), {}, "outcomes are 1"),
        (np.ones(50), {}, "give more openings"),
        (np.ones(200), {"delta": 0.0}, "delta=0.0"),
        (np.ones(200), {"alpha": 1.0}, "alpha=1.0"),
    ],
)
def test_bad_input_says_what_to_give(outcome: Array, changes: dict[str, float], message: str) -> None:
    state = np.random.default_rng(2).normal(size=(len(outcome), 3))
    with pytest.raises(UserError, match=message):
        select_steering(outcome, prompts_of(state), **changes)


def test_prompts_of_another_number_are_refused() -> None:
    with pytest.raises(UserError, match="give one of each"):
        select_steering(np.ones(10), prompts_of(np.zeros((9, 2))))
    with pytest.raises(UserError, match="sign=0"):
        right_moves(np.ones(2), 0, np.ones(2))
