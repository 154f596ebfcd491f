"""What means on the same openings have in common, on small cases worked by hand and against a simulation."""

import numpy as np
import pytest

from theodolite.control.shared_openings import clusters, error_covariance, influence


def test_openings_are_the_same_by_their_text_and_not_by_their_group() -> None:
    one = np.array(["a", "b", "c"]), np.array(["0", "1", "2"])
    other = np.array(["x", "c", "a"]), np.array(["0", "1", "2"])
    first, second = clusters([one, other])
    assert (second[1], second[2]) == (first[2], first[0])
    assert second[0] not in first


def test_what_one_concept_has_in_a_group_is_one_cluster_for_all() -> None:
    first, second = clusters([(np.array(["a", "b"]), np.zeros(2)), (np.array(["a", "b", "c"]), np.arange(3))])
    assert first[0] == first[1] == second[0] == second[1] != second[2]


def test_the_covariance_is_that_of_the_means_over_fresh_openings() -> None:
    """60 openings of one concept and 40 of another, 30 of them of both, with correlated effects."""
    rng = np.random.default_rng(0)

    def study() -> tuple[np.ndarray, np.ndarray]:
        pull_n, own_2n = rng.normal(size=70), rng.normal(size=(2, 70))
        one, other = pull_n + own_2n[0], 2 * pull_n + own_2n[1]
        return one[:60], other[30:]

    names = np.arange(70).astype(str)
    cluster = clusters([(names[:60], np.arange(60)), (names[30:], np.arange(40))])
    studies = [study() for _ in range(400)]
    true = np.cov(np.array([[one.mean(), other.mean()] for one, other in studies]).T)
    mean = np.zeros((2, 2))
    for both in studies:
        sd = np.array([one.std(ddof=1) / len(one) ** 0.5 for one in both])
        mean += error_covariance([influence(one) for one in both], cluster, sd, np.zeros(2)) / len(studies)
    # 2 x 30 / (60 x 40) is the covariance beside the diagonal
    assert mean[0, 1] == pytest.approx(0.025, rel=0.1)
    assert mean == pytest.approx(true, rel=0.2)


def test_refits_add_to_the_variance_alone() -> None:
    same, cluster = np.array([-1.0, 1.0]), [np.arange(2)] * 2
    found = error_covariance([same, same], cluster, np.ones(2), np.full(2, 2.0))
    assert found == pytest.approx(np.array([[5.0, 1.0], [1.0, 5.0]]))


def test_an_opening_without_an_effect_adds_nothing() -> None:
    whole = influence(np.array([[1.0, 3.0], [2.0, 6.0]]))
    assert whole == pytest.approx([-1.5, 1.5])
    part = influence(np.array([[1.0, np.nan, 3.0], [2.0, 6.0, np.nan]]))
    assert part == pytest.approx([(-1 - 2) / 2 / 2, 1.0, 0.5])
