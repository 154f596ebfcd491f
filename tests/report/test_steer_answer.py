"""Was the dictionary needed? Runs in which it was, was not, and in which nothing can be said."""

from typing import Any

import pytest

from theodolite.report.steer_answer import BIAS, FROZEN, MEANS, SET, PrimaryEffects, dictionary_answer

METRICS = ["effect_sentence", "effect_ngrams"]
METHODS = [SET, MEANS, FROZEN, BIAS]
EFFECTS = {SET: (3.0, -3.0), MEANS: (2.0, -2.0), FROZEN: (1.5, -1.5), BIAS: (1.0, -1.0)}
AHEAD, BEHIND, WIDE = (0.5, 1.5, "better"), (-1.5, -0.5, "worse"), (-0.5, 1.0, "undecided")
ALL_AHEAD = {(SET, MEANS): AHEAD, (SET, FROZEN): AHEAD, (MEANS, BIAS): AHEAD}


def answered(
    fixed: dict[tuple[str, str], tuple[float, float, str]],
    effects: dict[str, tuple[float, float]] = EFFECTS,
    bands: dict[str, float] | None = None,
    metrics: list[str] = METRICS,
    reach: float = 0.3,
    part: int = 0,
) -> str:
    contrasts = [
        {"method": one, "than": than, "metric": metric, "lo": lo, "hi": hi, "verdict": word}
        for (one, than), (lo, hi, word) in fixed.items()
        for metric in METRICS
    ]
    rows: dict[tuple[str, str, str], Any] = {}
    for method, (plus, minus) in effects.items():
        for split, value in (("+", plus), ("-", minus), ("both", (plus - minus) / 2)):
            for metric in METRICS:
                rows[method, split, metric] = {"value": value, "lo": value - reach, "hi": value + reach}
    return dictionary_answer(contrasts, metrics, 0.2, PrimaryEffects(METHODS, rows, bands or {}))[part]


def test_it_was_needed_where_the_latent_set_is_ahead_of_everything() -> None:
    assert answered(ALL_AHEAD) == "yes"


@pytest.mark.parametrize("than", [MEANS, FROZEN])
def test_it_was_not_where_a_control_that_steers_does_as_well(than: str) -> None:
    assert answered(ALL_AHEAD | {(SET, than): BEHIND}) == "no"


def test_nothing_follows_where_no_method_moves_the_text() -> None:
    # all methods are within the margin of each other, because none does anything
    alike = dict.fromkeys(ALL_AHEAD, (-0.02, 0.03, "equivalent"))
    still = dict.fromkeys(METHODS, (0.03, -0.03))
    assert answered(alike, still, reach=0.02) == "undecided"
    # and where all of them move it, but no farther than random directions
    alike_but_large = dict.fromkeys(METHODS, (1.0, -1.0))
    assert answered(alike, alike_but_large, bands=dict.fromkeys(METRICS, 1.2)) == "undecided"
    assert answered(alike, alike_but_large, bands=dict.fromkeys(METRICS, 0.8)) == "no"


def test_a_push_that_both_signs_share_is_no_yes() -> None:
    # half the distance between the signs is 3, but away from the concept the text moves towards it too
    assert answered(ALL_AHEAD, EFFECTS | {SET: (7.0, 1.0)}) == "undecided"


def test_a_latent_set_within_the_random_band_is_no_yes() -> None:
    assert answered(ALL_AHEAD, bands=dict.fromkeys(METRICS, 3.5)) == "undecided"


def test_the_vocabulary_bias_has_to_be_passed_too() -> None:
    assert answered(ALL_AHEAD | {(MEANS, BIAS): BEHIND}) == "undecided"
    # the two contrasts together: .5 - .4 is above 0, .5 - .6 is not
    assert answered(ALL_AHEAD | {(MEANS, BIAS): (-0.4, 0.9, "undecided")}) == "yes"
    assert answered(ALL_AHEAD | {(MEANS, BIAS): (-0.6, 0.9, "undecided")}) == "undecided"
    assert answered({pair: one for pair, one in ALL_AHEAD.items() if BIAS not in pair}) == "undecided"


def test_a_strength_that_was_not_matched_leaves_it_undecided_and_a_method_that_is_absent_unasked() -> None:
    unmatched = {pair: one for pair, one in ALL_AHEAD.items() if FROZEN not in pair}
    assert answered(unmatched) == "undecided"
    assert dictionary_answer([], METRICS, 0.2, PrimaryEffects([MEANS, BIAS]))[0] == "not asked"
    assert answered(ALL_AHEAD, metrics=[]) == "not asked"


def test_wide_intervals_leave_it_undecided() -> None:
    assert answered(ALL_AHEAD | {(SET, MEANS): WIDE}) == "undecided"


def test_the_reason_names_the_margin_that_a_latent_set_lacks() -> None:
    # .25 less .1 is below the margin of .2, though no random direction does as much
    found = answered(ALL_AHEAD, EFFECTS | {SET: (0.25, -0.25)}, reach=0.1, part=1)
    assert (
        found
        == "the latent set is ahead, but does not move written text by 0.2 nats and farther than random directions"
    )
