"""What a dictionary keeps: the conclusion follows from FVU, learning curve and contrasts together, never from one."""

import pytest

from theodolite.comparison.explained import NEITHER, OPEN, OUTSIDE, UNDERTRAINED, _rows_of, conclude


@pytest.mark.parametrize(
    ("fvu", "undertrained", "lost", "missed", "conclusion"),
    [
        (0.7, True, "worse", "undecided", OUTSIDE),
        (0.7, False, "undecided", "better", OUTSIDE),
        (0.7, True, "equivalent", "worse", NEITHER),  # what it leaves out does not matter to the reader
        (0.7, True, "undecided", "undecided", OPEN),
        (0.7, True, None, None, OPEN),
        (0.3, True, "worse", "worse", UNDERTRAINED),
        (0.3, False, "worse", "worse", NEITHER),
        (0.3, None, "worse", "worse", OPEN),
        (0.3, True, "better", None, NEITHER),
        (0.3, True, "undecided", "worse", OPEN),
        (0.5, True, "worse", None, UNDERTRAINED),
    ],
)
def test_a_cause_needs_a_measured_contrast(fvu, undertrained, lost, missed, conclusion) -> None:
    assert conclude(fvu, undertrained, lost, missed) == conclusion


def test_a_shift_whose_name_holds_the_word_vs_has_rows_of_its_own() -> None:
    fvu = {"d": {"train": 0.1, "cats vs dogs": 0.2}}
    assert _rows_of("cats vs dogs", fvu) == {"d": 0.2}
    assert _rows_of("leave-one-source-out:rho", fvu) == {"d": 0.1}
    assert _rows_of("leave-one-source-out:rho vs dogs", fvu) == {}
