"""Sentences about certificates say what is needed, what there is, and what follows."""

from theodolite.report.certificates import need, shortage


def test_a_plan_says_what_a_certificate_needs_and_whether_it_is_there() -> None:
    enough = "certifying 0.9 needs at least 22 rows without an error in every cell at delta 0.1; the rarer class has "
    assert need(0.9, 0.1, needed=22, fewest=30, most=31) == enough + "30 to 31, by training set"
    short = enough + "11 to 31, by training set: with fewer, nothing will be accepted at it"
    assert need(0.9, 0.1, needed=22, fewest=11, most=31) == short
    assert need(0.95, 0.1 / 9, needed=22, fewest=11, most=31).startswith("certifying 0.95 ")
    assert " at delta 0.0111; " in need(0.95, 0.1 / 9, needed=22, fewest=11, most=31)


def test_a_note_counts_the_rarer_class() -> None:
    assert shortage(0.9, 22, 12) == (
        "one reader of one training set: certifying 0.9 needs at least 22 rows without an error in every cell, "
        "the rarer class has 12"
    )
