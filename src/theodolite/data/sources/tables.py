"""Bytes of a known format as a table: one row per record, cells as written, nested fields as dotted columns."""

import codecs
import csv
import functools
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

import pandas as pd
import yaml

from theodolite.core import safe_yaml, unpack
from theodolite.core.errors import UserError, unknown
from theodolite.core.zstd import decompressed
from theodolite.data.sources.cells import is_nested

Records = list[dict[str, Any]]
_SUFFIXES = {"yml": "yaml", "prompt": "yaml", "ndjson": "jsonl", "tsv": "csv"}
_OPTIONS = {"comment", "delimiter", "encoding", "whole"}
SEPARATOR_LINE = re.compile(r"sep=([;,|\t])\r?\n")  # before the header: how Excel is told to divide the fields
SEPARATORS = (";", "|", "\t", ",")  # of tables that are not what their name says
NULS = 4096  # bytes in which NULs are counted: every second one of UTF-16 without a mark is one
_PACKED = (".gz", ".zst")


def form_of(name: str) -> str:
    """The format that a file's name stands for, whatever the case of its ending and whether it is compressed.

    >>> form_of("a/Mine.CSV.gz"), form_of("mine.ndjson"), form_of("mine")
    ('csv', 'jsonl', '')
    """
    suffix = PurePath(_unpacked_name(name)).suffix[1:].lower()
    return _SUFFIXES.get(suffix, suffix)


def stem_of(name: str) -> str:
    """A file's name without its folder and its endings.

    >>> stem_of("a/Mine.v2.CSV.gz")
    'Mine.v2'
    """
    return PurePath(_unpacked_name(name)).stem


def _unpacked_name(name: str) -> str:
    return name[: -len(PurePath(name).suffix)] if name.lower().endswith(_PACKED) else name


def parse(
    files: Mapping[str, bytes],
    *,
    form: str | None = None,
    field: str | None = None,
    blank: bool = False,
    single: Sequence[str] = (),
    **options: Any,
) -> pd.DataFrame:
    """One table of all records in `files`, by name; with several files a column `member` says which.

    The name's suffix gives the format unless `form` does; a trailing `.zst` or `.gz` is decompressed. A cell of a CSV
    table is the string that is written there, None if it is empty; no cell becomes a number. `field` is only used for
    its `[]` steps: `seeds[].value` makes one row of each item of `seeds`. blank: a blank line is a row without cells
    (and the lines of a txt file keep their spaces), so that row n is record n of the file. Options: `encoding`
    (else UTF-8), for CSV `delimiter` and `comment` (a prefix of leading lines to leave out), for txt `whole` (a file is
    one text). Lists of plain values are joined with " | ", but not in the columns `single`, of which each cell is to
    be one value.

    >>> parse({"f.json": b'{"seeds": [{"value": "a", "by": ["x", "y"]}, {"value": "b"}]}'}, field="seeds[].value")
      value     by
    0     a  x | y
    1     b    NaN
    """
    if extra := set(options) - _OPTIONS:
        raise unknown("option", min(extra), _OPTIONS)
    for name in ("comment", "encoding"):
        if not isinstance(options.get(name, ""), str):
            raise UserError(f"the option {name!r} is text, not {options[name]!r}: put it in quotes")
    options = {**options, "blank": blank}
    parts = [_part(content, origin, form, field or "", options) for origin, content in files.items()]
    if len(parts) == 1:
        return _plain(_framed(parts[0]), single)
    if all(isinstance(part, list) for part in parts):
        pairs = zip(files, parts, strict=True)
        return _plain(_framed([{**record, "member": origin} for origin, part in pairs for record in part]), single)
    frames = [_framed(part).assign(member=origin) for origin, part in zip(files, parts, strict=True)]
    return _plain(pd.concat(frames, ignore_index=True), single)


def _framed(part: pd.DataFrame | Records) -> pd.DataFrame:
    """Records as a table of objects: beside a missing cell a whole number would become a fraction, and 7 be 7.0."""
    return part if isinstance(part, pd.DataFrame) else pd.DataFrame(part, dtype=object)


def _part(content: bytes, origin: str, form: str | None, field: str, options: dict[str, Any]) -> pd.DataFrame | Records:
    """One file: a table where the format is one, else flat records."""
    name = _unpacked_name(origin)
    if origin.lower().endswith(".zst"):
        content = decompressed(content, origin)
    elif origin.lower().endswith(".gz"):
        content = unpack.gunzipped(content, origin)
    form = form or form_of(name)
    if form not in _PARSERS:
        raise unknown(f"format of {origin!r}", form, _PARSERS)
    if name.lower().endswith(".tsv"):
        options = {"delimiter": "\t", **options}
    return _PARSERS[form](content, name, field, options)


def column_of(field: str) -> str:
    """The column that a field path names once its list steps are walked.

    >>> column_of("seeds[].value"), column_of("metadata.type"), column_of("prompt")
    ('value', 'metadata.type', 'prompt')
    """
    return field.rpartition("[]")[2].removeprefix(".")


def _csv(content: bytes, origin: str, field: str, options: dict[str, Any]) -> pd.DataFrame:
    """Only an empty cell is missing: a text that says "NA" or "null" is a text."""
    text = _decoded(content, origin, options)
    if comment := options.get("comment"):
        text = re.sub(rf"\A(?:{re.escape(comment)}[^\n]*\n)+", "", text)
    _refuse_empty(text, origin)
    announced = SEPARATOR_LINE.match(text)
    delimiter = options.get("delimiter", announced[1] if announced else ",")
    text = text[announced.end() :] if announced else text
    if not isinstance(delimiter, str) or (len(delimiter) != 1 and delimiter != r"\s+"):
        raise UserError(f"{origin}: the delimiter of a CSV table is one character, not {delimiter!r}")
    if delimiter == r"\s+":  # outside quotes, runs of spaces and tabs count as one
        text = re.sub(r'("(?:[^"]|"")*")|[ \t]+', lambda found: found[1] or " ", text)
        delimiter = " "
    header, records = _csv_records(text, origin, delimiter, bool(options.get("blank")))
    names = [name or f"Unnamed: {at}" for at, name in enumerate(header)]  # as pandas names the index it wrote
    return pd.DataFrame(records, columns=names, dtype=object)


def _refuse_other_separator(header: list[str], origin: str, delimiter: str) -> None:
    """Refuse a header of a single field that another mark divides into names."""
    for mark in SEPARATORS if len(header) == 1 else ():
        names = header[0].split(mark)
        if mark != delimiter and len(names) > 1 and all(re.fullmatch(r"\s*\w[\w .-]*", name) for name in names):
            shown = {"\t": "tabs"}.get(mark, repr(mark))
            raise UserError(
                f"{origin} is separated by {shown}, and {delimiter!r} is expected: save it as CSV with commas, "
                "or as .tsv with tabs"
            )


def _csv_records(text: str, origin: str, delimiter: str, blank: bool) -> tuple[list[str], list[list[str | None]]]:
    """Header and rows of a CSV text; a row with more or fewer fields than the header is refused, never filled up.

    A blank line is left out, or with `blank` a row of missing cells: the only record, where the table has one column.
    """
    # newline="" keeps the line ends inside a quoted text as they are written
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    records: list[list[str | None]] = []
    line = 1
    try:
        with _long_fields():
            for fields in reader:
                is_blank = not fields or (len(fields) == 1 != len(header) and not fields[0].strip())
                if not header:
                    header = [] if is_blank else fields
                    _refuse_other_separator(header, origin, delimiter)
                elif is_blank:
                    records += [[None] * len(header)] if blank else []
                elif len(fields) != len(header):
                    raise UserError(
                        f"{origin} is not a CSV table: line {line} has {len(fields)} field{'s' * (len(fields) > 1)} "
                        f"and the header has {len(header)}; put a field that contains {delimiter!r} in quotes"
                    )
                else:
                    _refuse_swallowed(fields, origin, delimiter, line)
                    records.append([cell or None for cell in fields])
                line = reader.line_num + 1
    except csv.Error as error:
        if not header:  # of quoted names, the first mark behind a quote is already an error
            first = text.lstrip().splitlines()[0]
            _refuse_other_separator([first.replace('"', "")] if first.startswith('"') else [], origin, delimiter)
        if "unexpected end" in str(error):
            raise UserError(
                f"{origin} is not a CSV table: EOF inside string, a quote opened in line {line} is never closed"
            ) from None
        raise UserError(
            f"{origin} is not a CSV table: the record in line {line}: {error}; "
            "write a quote that is inside a quoted field twice"
        ) from None
    return header, records


def _refuse_swallowed(fields: list[str], origin: str, delimiter: str, line: int) -> None:
    """Refuse a field of a tab-separated table that spans lines with tabs inside: it may have swallowed whole rows.

    Many programs write such tables without quoting; then a quote at the start of a text opens nothing. Tabs that
    indent a line are no sign of that.
    """
    for field in fields if delimiter == "\t" else ():
        parts = re.split(r"\r\n|\n|\r", field)
        if len(parts) > 1 and any("\t" in part.strip("\t") for part in parts):
            raise UserError(
                f"{origin}: the quote that opens in line {line} closes in another one, with tabs between: read the "
                "table with Python's csv.QUOTE_NONE if a quote is only a quote there, else as it is, and save it as CSV"
            )


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let csv read fields of more than 128 KiB; too long a text is refused later, by its row."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _jsonl(content: bytes, origin: str, field: str, options: dict[str, Any]) -> Records:
    records = []
    text = _decoded(content, origin, options)
    _refuse_empty(text, origin)
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        if line.strip():
            records.append(_loaded(_json_value, line, f"line {number} of {origin}"))
        elif options.get("blank"):
            records.append({})
    steps = field.removeprefix("[]")  # the lines are such a list themselves
    return _flat(_under(records, steps, origin) if "[]" in steps else records, origin)


def _json(content: bytes, origin: str, field: str, options: dict[str, Any]) -> Records:
    text = _decoded(content, origin, options)
    _refuse_empty(text, origin)
    tree = _loaded(_json_value, text, origin)
    return _flat(_walk(tree if "[]" in field else _by_columns(tree, origin), field, origin), origin)


def _json_value(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different; json would keep the last value of a key and say nothing."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object: keep one of them")
    return found


def _by_columns(tree: Any, origin: str) -> Any:
    """The records of a JSON object that holds columns, each a list or, as pandas writes them, an object by row name."""
    if not isinstance(tree, dict) or not tree:
        return tree
    if all(isinstance(column, list) for column in tree.values()):
        lengths = {name: len(column) for name, column in tree.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"{origin} holds columns of unequal length: {lengths}")
        return [dict(zip(tree, cells, strict=True)) for cells in zip(*tree.values(), strict=True)]
    if all(isinstance(column, dict) for column in tree.values()):
        first, *others = (list(column) for column in tree.values())
        if len(tree) > 1 and first and all(other == first for other in others) and not any(map(is_nested, first)):
            return [{name: column[row] for name, column in tree.items()} for row in first]
    return tree


def _yaml(content: bytes, origin: str, field: str, options: dict[str, Any]) -> Records:
    load, text = functools.partial(yaml.load, Loader=safe_yaml.LOADER), _decoded(content, origin, options)
    safe_yaml.check(text, origin, max(len(text), safe_yaml.MOST))  # data may be long, but not longer than it looks
    return _flat(_walk(_loaded(load, text, origin), field, origin), origin)


def _parquet(content: bytes, origin: str, field: str, options: dict[str, Any]) -> pd.DataFrame:
    return unpack.table(content, origin)


def _txt(content: bytes, origin: str, field: str, options: dict[str, Any]) -> Records:
    text = _decoded(content, origin, options)
    if options.get("whole"):
        return [{"text": text.strip()}] if text.strip() else []
    lines = re.split(r"\r\n|\n|\r", text)
    if options.get("blank"):
        return [{"text": line} for line in (lines if lines[-1] else lines[:-1])]
    return [{"text": line.strip()} for line in lines if line.strip()]


_PARSERS = {"csv": _csv, "jsonl": _jsonl, "json": _json, "yaml": _yaml, "parquet": _parquet, "txt": _txt}


def _decoded(content: bytes, origin: str, options: dict[str, Any]) -> str:
    encoding = options.get("encoding", "utf-8-sig")
    if "encoding" not in options and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{origin} is UTF-16: save it as UTF-8 and run again")
    if "encoding" not in options and content[:NULS].count(0) * 4 > len(content[:NULS]):
        raise UserError(f"{origin} is no text: a quarter of its first bytes or more are NUL; save it as UTF-8 text")
    try:
        return content.decode(encoding)
    except LookupError:
        raise UserError(f"{origin}: there is no encoding {encoding!r}; utf-8, latin-1 and cp1252 are common") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{origin} is not {error.encoding.upper()}: byte 0x{content[error.start]:02x} at offset {error.start} "
            f"(line {line}); save it as UTF-8 and run again"
        ) from None


def _refuse_empty(text: str, origin: str) -> None:
    if not text.strip():
        raise UserError(f"{origin} is empty")


def _loaded(load: Callable[[str], Any], text: str, origin: str) -> Any:
    try:
        return load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{origin} cannot be parsed: {' '.join(str(error).split())}") from None


def _walk(tree: Any, field: str, origin: str) -> list[Any]:
    """The records of a parsed file: those under the `[]` steps of a path, else those of a list, else the whole."""
    if "[]" not in field and isinstance(tree, list):
        return tree
    return _under([tree], field, origin)


def _under(nodes: list[Any], field: str, origin: str) -> list[Any]:
    """Return the values under every `[]` step of a path, node by node; a mapping under `[]` gives its values."""
    *steps, _ = field.split("[]")
    for step in steps:
        for key in filter(None, step.split(".")):
            if not all(isinstance(node, dict) and key in node for node in nodes):
                raise unknown(
                    f"field of {origin}", key, {str(k) for node in nodes if isinstance(node, dict) for k in node}
                )
            nodes = [node[key] for node in nodes]
        nodes = [item for node in nodes for item in _items(node, step, origin)]
    return nodes


def _items(node: Any, step: str, origin: str) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    if isinstance(node, list):
        return node
    raise UserError(f"{origin}: {step or 'the whole file'} is a {type(node).__name__}, so [] has nothing to walk")


def _flat(records: list[Any], origin: str) -> Records:
    if not all(isinstance(record, str | dict) for record in records):
        raise UserError(f"{origin}: records must be objects with named fields, or plain texts")
    return [{"text": record} if isinstance(record, str) else _fields(record, origin) for record in records]


def _fields(record: dict[str, Any], origin: str) -> dict[str, Any]:
    """The fields of a record, nested ones under dotted names; a name that two of them come to is refused."""
    leaves = list(_leaves(record, ""))
    found = dict(leaves)
    if len(found) < len(leaves):
        names = [name for name, _ in leaves]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(
            f"{origin}: a record has a field {twice!r} and, inside another, one of the same dotted name: rename one"
        )
    return found


def _leaves(record: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The fields of a record, nested ones under dotted names."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(table: pd.DataFrame, single: Sequence[str]) -> pd.DataFrame:
    """Lists of plain values become text, but in the columns `single`."""
    for at in range(table.shape[1]):
        if table.columns[at] not in single and pd.api.types.is_object_dtype(table.dtypes.iloc[at]):
            # not Series.map, which would make an Arrow string of a column and fail on half a character
            cells = pd.Series([_joined(cell) for cell in table.iloc[:, at]], index=table.index, dtype=object)
            table.isetitem(at, cells)
    return table


def _joined(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list) and not any(map(is_nested, value)):
        return " | ".join(map(str, value))
    return value
