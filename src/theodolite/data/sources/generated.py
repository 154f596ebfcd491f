"""Texts written by a rule: statements whose truth is known by construction."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from theodolite.core.errors import unknown
from theodolite.core.seeds import generator
from theodolite.data.sources import wheel

# Moved, renamed, disputed or dissolved: the wheel's capital is not what everybody would call true.
_UNSETTLED = {
    "Antilles néerlandaises",
    "Bonaire, Sint Eustatius and Saba",
    "Burundi",
    "Equatorial Guinea",
    "Holy See (Vatican City State)",
    "Hong Kong",
    "Israel",
    "Kazakhstan",
    "Palestine",
    "Palestine, State of",
    "Serbia and Montenegro",
    "Sri Lanka",
    "Swaziland",
    "Western Sahara",
}


def table(name: str, seed: int) -> pd.DataFrame:
    """The rows of one generator, reproducible from its seed."""
    if name not in GENERATORS:
        raise unknown("generator", name, GENERATORS)
    return GENERATORS[name](seed)


def capitals(seed: int) -> pd.DataFrame:
    """ "The capital of X is Y.", one true and one false statement for each country (Marks & Tegmark 2023).

    Two countries of a region, drawn by the seed, swap their capitals for the false statements (three where a region's
    number is odd): every country and every capital stands in exactly one true and one false statement of its `pair`,
    so single words say nothing about the label, inside a pair or anywhere.
    """
    return _statements("The capital of {country} is {capital}.", seed, true=1)


def capitals_negated(seed: int) -> pd.DataFrame:
    """ "The capital of X is not Y.", the same pairs: here the statement with the wrong capital is the true one."""
    return _statements("The capital of {country} is not {capital}.", seed, true=0)


GENERATORS: dict[str, Callable[[int], pd.DataFrame]] = {"capitals": capitals, "capitals_negated": capitals_negated}


def _statements(template: str, seed: int, *, true: int) -> pd.DataFrame:
    rows = []
    for region, countries in _countries().groupby("region", sort=True):
        order = generator(seed, "capitals", region).permutation(len(countries))
        for number, chosen in enumerate(_pairs(order)):
            members = countries.iloc[chosen]
            wrong = np.roll(members.capital, -1)
            for country, right, other in zip(members.country, members.capital, wrong, strict=True):
                for capital, label in ((right, true), (other, 1 - true)):
                    text = template.format(country=country, capital=capital)
                    rows.append({"text": text, "label": label, "country": country, "pair": f"{region} {number}"})
    return pd.DataFrame(rows)


def _pairs(order: np.ndarray) -> list[np.ndarray]:
    """Neighbours of an order two by two, the last three together if their number is odd."""
    return np.split(order, range(2, len(order) - 1, 2))


def _countries() -> pd.DataFrame:
    """Countries with one settled capital of another name, capitals unique, by subregion (small ones by continent)."""
    names = [m for m in wheel.members("countryinfo") if m.startswith("countryinfo/data/") and m.endswith(".json")]
    records = [json.loads(content) for content in wheel.read("countryinfo", names)]
    rows = [
        {"country": r["name"], "capital": r["capital"], "region": r["subregion"], "continent": r["region"]}
        for r in records
        if isinstance(r.get("capital"), str) and r["capital"] not in ("", r["name"]) and r["name"] not in _UNSETTLED
    ]
    table = pd.DataFrame(rows).sort_values("country", ignore_index=True)
    table = table[~table.capital.duplicated(keep=False)]
    small = table.groupby("region").region.transform("size") < 3
    return table.assign(region=table.region.where(~small, table.continent))
