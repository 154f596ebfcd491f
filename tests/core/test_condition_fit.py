"""The bound of a condition: the best one by trying all, and its table counted by hand."""

import json
from typing import Any

import numpy as np
import pytest

from theodolite.core.condition import Condition
from theodolite.core.condition_fit import FiringTable, fit_condition
from theodolite.core.errors import UserError
from theodolite.core.latents import LatentBasis

V = np.array([1.0, 2.0, 0.0])


def test_a_table_counts_rows() -> None:
    table = FiringTable.of([1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0])
    assert table == FiringTable(2, 1, 1, 3)
    assert table.f1 == pytest.approx(2 / 3)
    assert FiringTable.of([0, 0], [1, 0]).f1 == 0.0


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_bound_has_a_larger_f1(cosine: bool, sign: int) -> None:
    random = np.random.default_rng(1)
    for _ in range(5):
        rows = random.normal(size=(30, 3)).astype(np.float32)
        should = sign * (rows @ V) + random.normal(size=30) * 2 > 1
        condition, table = fit_condition(V, rows, should, cosine=cosine)
        scores = rows @ V / 5 if not cosine else rows @ V / np.sqrt(5) / np.linalg.norm(rows, axis=1)
        best = max(FiringTable.of(s * scores >= cut, should).f1 for s in (1, -1) for cut in s * scores)
        assert table.f1 == pytest.approx(best)
        low, high = condition.above, condition.below
        fires = scores > low if low is not None else scores < high
        assert table == FiringTable.of(fires, should)


def test_a_planted_gate_by_cosine_is_found_where_the_coordinate_is_misled_by_length() -> None:
    """Rows along v are short, and others long: only the angle separates them."""
    random = np.random.default_rng(2)
    along = V / np.linalg.norm(V) + random.normal(size=(50, 3)) * 0.05
    other = random.normal(size=(50, 3)) * 30
    other = other[np.abs(other @ V / np.sqrt(5) / np.linalg.norm(other, axis=1)) < 0.9]
    rows, should = np.concatenate([along, other]), np.arange(50 + len(other)) < 50
    condition, table = fit_condition(V, rows, should, site="blocks.3.resid_post", since="last")
    assert table == FiringTable(50, 0, 0, len(other))
    cosines = rows @ V / np.linalg.norm(V) / np.linalg.norm(rows, axis=1)
    assert cosines[50:].max() < condition.above < cosines[:50].min()  # type: ignore[operator]
    assert (str(condition.site), str(condition.since), condition.cosine) == ("blocks.3.resid_post", "last", True)
    assert fit_condition(V, rows, should, cosine=False)[1].f1 < 0.9
    again = Condition.from_json(json.loads(json.dumps(condition.to_json())))
    assert again.to_json() == condition.to_json()
    assert again.cosine


def test_what_has_no_bound_is_refused() -> None:
    rows = np.ones((4, 3))
    for bad, message in (([1, 1, 1, 1], "some of each"), ([1, 0], "one label for each row")):
        with pytest.raises(UserError, match=message):
            fit_condition(V, rows, bad)
    with pytest.raises(UserError, match="has 3 numbers"):
        fit_condition(V, np.ones((2, 5)), [0, 1])

    class Sae:
        W_dec, normalise, is_transcoder = type("W", (np.ndarray,), {"device": "cpu"})((4, 3)), "none", False

    latents: Any = LatentBasis(Sae(), 1)
    with pytest.raises(UserError, match="has no cosine"):
        Condition(latents, above=0.0, cosine=True)
