"""Bytes of a known format as a table: one row per record, nested fields as dotted columns."""

import functools
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
import yaml

from theodolite.core import safe_yaml, unpack
from theodolite.core.errors import UserError, unknown
from theodolite.core.zstd import decompressed

Records = list[dict[str, Any]]
_SUFFIXES = {"yml": "yaml", "prompt": "yaml", "ndjson": "jsonl", "tsv": "csv"}
_OPTIONS = {"comment", "delimiter", "encoding", "whole"}


def parse(
    files: Mapping[str, bytes], *, form: str | None = None, field: str | None = None, **options: Any
) -> pd.DataFrame:
    """One table of all records in `files`, by name; with several files a column `member` says which.

    The name's suffix gives the format unless `form` does; a trailing `.zst` or `.gz` is decompressed. `field` is only
    used for its `[]` steps: `seeds[].value` makes one row of each item of `seeds`. Options: `encoding` (else UTF-8),
    for CSV `delimiter` and `comment` (a prefix of leading lines to leave out), for txt `whole` (a file is one text).
    Lists of plain values are joined with " | ".

    >>> parse({"f.json": b'{"seeds": [{"value": "a", "by": ["x", "y"]}, {"value": "b"}]}'}, field="seeds[].value")
      value     by
    0     a  x | y
    1     b    NaN
    """
    if extra := set(options) - _OPTIONS:
        raise unknown("option", min(extra), _OPTIONS)
    parts = [_part(content, origin, form, field or "", options) for origin, content in files.items()]
    if len(parts) == 1:
        return _plain(pd.DataFrame(parts[0]))
    if all(isinstance(part, list) for part in parts):
        pairs = zip(files, parts, strict=True)
        return _plain(pd.DataFrame([{**record, "member": origin} for origin, part in pairs for record in part]))
    frames = [pd.DataFrame(part).assign(member=origin) for origin, part in zip(files, parts, strict=True)]
    return _plain(pd.concat(frames, ignore_index=True))


def _part(content: bytes, origin: str, form: str | None, field: str, options: dict[str, Any]) -> pd.DataFrame | Records:
    """One file: a table where the format is one, else flat records."""
    if origin.endswith(".zst"):
        content, origin = decompressed(content, origin), origin.removesuffix(".zst")
    if origin.endswith(".gz"):
        content, origin = unpack.gunzipped(content, origin), origin.removesuffix(".gz")
    suffix = origin.rsplit(".", 1)[-1].lower()
    form = form or _SUFFIXES.get(suffix, suffix)
    if form not in _PARSERS:
        raise unknown(f"format of {origin!r}", form, _PARSERS)
    if suffix == "tsv":
        options = {"delimiter": "\t", **options}
    return _PARSERS[form](content, origin, field, options)


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
    if not text.strip():
        raise UserError(f"{origin} is empty")
    delimiter = options.get("delimiter", ",")
    if not isinstance(delimiter, str) or (len(delimiter) != 1 and delimiter != r"\s+"):
        raise UserError(f"{origin}: the delimiter of a CSV table is one character, not {delimiter!r}")
    try:
        return pd.read_csv(io.StringIO(text), sep=delimiter, keep_default_na=False, na_values=[""], low_memory=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{origin} is not a CSV table: {str(error).strip()}") from None


def _jsonl(content: bytes, origin: str, field: str, options: dict[str, Any]) -> Records:
    records = []
    for number, line in enumerate(_decoded(content, origin, options).split("\n"), start=1):
        if line.strip():
            records.append(_loaded(json.loads, line, f"line {number} of {origin}"))
    steps = field.removeprefix("[]")  # the lines are such a list themselves
    return _flat(_under(records, steps, origin) if "[]" in steps else records, origin)


def _json(content: bytes, origin: str, field: str, options: dict[str, Any]) -> Records:
    return _flat(_walk(_loaded(json.loads, _decoded(content, origin, options), origin), field, origin), origin)


def _yaml(content: bytes, origin: str, field: str, options: dict[str, Any]) -> Records:
    load, text = functools.partial(yaml.load, Loader=_YAML_LOADER), _decoded(content, origin, options)
    safe_yaml.check(text, origin, max(len(text), safe_yaml.MOST))  # data may be long, but not longer than it looks
    return _flat(_walk(_loaded(load, text, origin), field, origin), origin)


def _parquet(content: bytes, origin: str, field: str, options: dict[str, Any]) -> pd.DataFrame:
    return unpack.table(content, origin)


def _txt(content: bytes, origin: str, field: str, options: dict[str, Any]) -> Records:
    text = _decoded(content, origin, options)
    lines = [text] if options.get("whole") else text.splitlines()
    return [{"text": line.strip()} for line in lines if line.strip()]


_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PARSERS = {"csv": _csv, "jsonl": _jsonl, "json": _json, "yaml": _yaml, "parquet": _parquet, "txt": _txt}


def _decoded(content: bytes, origin: str, options: dict[str, Any]) -> str:
    encoding = options.get("encoding", "utf-8-sig")
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
    """What lies under every `[]` step of a path, node by node; a mapping under `[]` gives its values."""
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
    return [{"text": record} if isinstance(record, str) else dict(_leaves(record, "")) for record in records]


def _leaves(record: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The fields of a record, nested ones under dotted names."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Lists of plain values become text; a column that holds anything deeper leaves."""
    nested = [name for name in table.columns if table[name].dtype == object]
    for name in nested:
        table[name] = table[name].map(_joined)
    return table.drop(columns=[name for name in nested if table[name].map(_is_nested).any()])


def _joined(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list) and not any(map(_is_nested, value)):
        return " | ".join(map(str, value))
    return value


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list)
