"""The method that steers furthest, and which others are not told apart from it."""

import numpy as np

from theodolite.control.furthest import furthest

METHODS = "abcde"
OPENINGS = np.arange(40)


def drawn(seed: int, mean: dict[str, float]) -> dict[str, np.ndarray]:
    """Effects that share what an opening does to all methods."""
    draw = np.random.default_rng(seed)
    common = draw.normal(0, 2, len(OPENINGS))
    return {method: value + common + draw.normal(0, 1, len(OPENINGS)) for method, value in mean.items()}


def test_a_method_as_good_as_any_is_left_out_in_at_most_one_study_of_twenty() -> None:
    studies = [furthest(drawn(seed, dict.fromkeys(METHODS, 1.0)), OPENINGS) for seed in range(100)]
    named = sum("a" in (leader, *alike) for leader, alike in studies)
    assert named >= 90  # of .95 fewer than 90 have a probability of .01
    assert sum(leader == "a" for leader, _ in studies) < 50  # each of five is often enough ahead by chance


def test_a_lead_is_told_from_noise_by_what_openings_share() -> None:
    mean = {"a": 3.0, "b": 2.0, "c": 2.95, "d": 0.0}
    leader, alike = furthest(drawn(1, mean), OPENINGS)
    assert {leader, *alike} == {"a", "c"}  # the common part alone would hide a lead of 1 in an error of .5


def test_one_method_has_no_rival() -> None:
    assert furthest({"a": np.ones(5)}, np.arange(5)) == ("a", [])
