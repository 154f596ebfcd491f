"""Sources of texts: data wheels, the Hugging Face hub, a file, a generator, a concept; all end as one kind of table."""

import re

import pandas as pd

from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.data.sources import concept, file, generated, hub, tables, wheel
from theodolite.data.sources.select import select

PLACES = ("wheel", "hub", "file", "generated", "concept")


def rows(source: Source, seed: int = 0) -> pd.DataFrame:
    """The rows of one source: columns `text`, `label` (0, 1, or None where the source has none), and all plain others.

    A source with several members adds `member` (path) and `family`: the first folder below the pattern's fixed part,
    or the file's stem.
    """
    places = {k: v for k in PLACES if (v := getattr(source, k)) is not None}
    if len(places) != 1:
        raise UserError(
            f"source {source.source!r} must name exactly one of {', '.join(PLACES)}; it has {sorted(places)}"
        )
    ((kind, name),) = places.items()
    place = (kind, name, str(source.member), str(source.field))
    text = tables.column_of(source.field) if source.field else None
    if kind == "generated":
        table, source = generated.table(name, seed, **source.options), source.model_copy(update={"label": "label"})
    elif kind == "concept":
        if not isinstance(source.member, str | None):
            raise UserError(f"source {source.source!r}: one concept has one member, not {source.member}")
        table = concept.table(name, source.member or concept.TEXTS)
        source = source.model_copy(update={"label": "label"})
    elif kind == "hub":
        table = hub.table(name, revision=source.revision, **source.options)
    elif kind == "file":
        one = (text or "text", str(source.label))
        table = tables.parse(
            {name: file.read(name)}, form=source.format, field=source.field, blank=True, single=one, **source.options
        )
    else:
        table = _wheel_table(name, source)
    return select(table, source, text, place, seed)


def _wheel_table(name: str, source: Source) -> pd.DataFrame:
    if source.member is None:
        raise UserError(f"source {source.source!r} must say which member of the wheel {name!r} it reads")
    patterns = [source.member] if isinstance(source.member, str) else source.member
    found = {member: _root(pattern) for pattern in patterns for member in wheel.expand(name, pattern)}
    files = dict(zip(found, wheel.read(name, found), strict=True))
    table = tables.parse(files, form=source.format, field=source.field, **source.options)
    if len(files) == 1:
        return table
    return table.assign(family=[_family(member, found[member]) for member in table.member])


def _root(pattern: str) -> str:
    """The folder of a pattern before its first wildcard, with the slash."""
    return re.split(r"[*?]", pattern)[0].rpartition("/")[0] + "/"


def _family(member: str, root: str) -> str:
    """Group of files that a member belongs to.

    >>> _family("a/templates/pliny/x/one.yaml", "a/templates/"), _family("a/templates/two.yaml", "a/templates/")
    ('pliny', 'two')
    """
    first, *deeper = member.removeprefix(root).split("/")
    return first if deeper else first.rsplit(".", 1)[0]
