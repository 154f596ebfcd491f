"""The labelled texts of a concept that ships with the package."""

from importlib import resources
from typing import Any

import pandas as pd

from theodolite.core.errors import unknown
from theodolite.data.sources.tables import parse

TEXTS, SHIFT = "texts", "shift"
_ENDINGS = {TEXTS: ".csv", SHIFT: "-shift.csv"}


def folder() -> Any:
    """Folder of the packaged concepts: NAME.yaml, NAME.csv and, where it has one, NAME-shift.csv."""
    return resources.files("theodolite") / "concepts"


def names() -> list[str]:
    """Names of the packaged concepts."""
    return sorted(p.name.removesuffix(".yaml") for p in folder().iterdir() if p.name.endswith(".yaml"))


def table(name: str, member: str = TEXTS) -> pd.DataFrame:
    """One table of a packaged concept, columns `text`, `label` and `group`.

    member: `texts`, or `shift`, the second set of another genre.

    >>> table("french").columns.tolist()
    ['text', 'label', 'group']
    """
    if name not in names():
        raise unknown("concept", name, names())
    here = {part: file for part, end in _ENDINGS.items() if (file := folder() / f"{name}{end}").is_file()}
    if member not in here:
        raise unknown(f"member of the concept {name!r}", member, here)
    return parse({here[member].name: here[member].read_bytes()}, blank=True)
