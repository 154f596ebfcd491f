"""Generated statements: true where they say so, and balanced so that no single word tells."""

import json
from typing import Any

import pytest

from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.data.sources import generated, rows, wheel


def source(**fields: Any) -> Source:
    return Source(source="toy", **fields)


@pytest.fixture
def countries(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Nine countries in two regions, one too small to stand alone, plus three that must stay out."""
    known = {
        f"{region}-{i}": f"{region}-town-{i}"
        for region, n in (("North", 4), ("South", 3), ("Isle", 2))
        for i in range(n)
    }
    records = [
        {
            "name": name,
            "capital": capital,
            "subregion": name.split("-")[0],
            "region": "Isle" if "Isle" in name else "World",
        }
        for name, capital in known.items()
    ]
    records += [
        {"name": "Monaco", "capital": "Monaco", "subregion": "North", "region": "World"},
        {"name": "Nowhere", "capital": None, "subregion": "North", "region": "World"},
        {"name": "Israel", "capital": "Jerusalem", "subregion": "South", "region": "World"},
    ]
    files = {f"countryinfo/data/{r['name']}.json": json.dumps(r).encode() for r in records}
    monkeypatch.setattr(wheel, "members", lambda name: list(files))
    monkeypatch.setattr(wheel, "read", lambda name, wanted: [files[one] for one in wanted])
    return known


@pytest.mark.parametrize(("name", "true"), [("capitals", 1), ("capitals_negated", 0)])
def test_statements_are_true_exactly_where_the_capital_is_right(
    countries: dict[str, str], name: str, true: int
) -> None:
    frame = rows(source(generated=name))
    assert len(frame) == 2 * len(countries)
    middle = " is " if true else " is not "
    for row in frame.itertuples():
        country, capital = row.text.removeprefix("The capital of ").removesuffix(".").split(middle)
        assert row.label == (true if countries[country] == capital else 1 - true)
        assert country.split("-")[0] == capital.split("-")[0]


def test_no_single_name_tells_true_from_false(countries: dict[str, str]) -> None:
    frame = generated.capitals(seed=3)
    for name in [*countries, *countries.values()]:
        labels = frame.label[frame.text.str.contains(rf"{name}\b")].tolist()
        assert sorted(labels) == [0, 1]


def test_pairs_share_no_country_and_no_capital_and_are_as_small_as_can_be(countries: dict[str, str]) -> None:
    frame = generated.capitals(seed=1)
    sizes = frame.groupby("pair").country.nunique()
    assert sorted(sizes) == [2, 2, 2, 3]
    for name in [*countries, *countries.values()]:
        assert frame.pair[frame.text.str.contains(rf"{name}\b")].nunique() == 1


def test_generators_follow_their_seed_only(countries: dict[str, str]) -> None:
    assert generated.capitals(0).equals(generated.capitals(0))
    assert not generated.capitals(0).text.equals(generated.capitals(1).text)
    with pytest.raises(UserError, match="unknown generator 'capital': did you mean 'capitals'"):
        rows(source(generated="capital"))
