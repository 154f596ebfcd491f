"""YAML without its traps: what it says is JSON, every key once, and no deeper and no longer than it looks.

Nine lines of aliases stand for a billion values ("billion laughs"), a thousand brackets exhaust the stack, a later key
silently replaces an earlier one, and `1:30`, `010` or `2024-01-01` are not the text they look like.
"""

import math
import re
from typing import Any

import yaml

from theodolite.core.errors import UserError

DEEPEST = 64  # levels; our recipes have 6
MOST = 100_000  # values of a recipe, its aliases written out
LARGEST = 2**63  # whole numbers below fit every table and every JSON reader
_TRUTHS = ("true", "false")  # YAML 1.1 also reads yes, no, on and off as one of these
_MISREAD = re.compile(r":|^[+-]?0\d")  # 1:30 is 90 and 010 is 8
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str, origin: str) -> Any:
    """The JSON value that YAML text stands for; `origin` names the text in errors.

    >>> load("a: &x [1, 2]\\nb: *x", "r.yaml")
    {'a': [1, 2], 'b': [1, 2]}
    """
    check(text, origin, MOST)
    try:
        node = yaml.compose(text, Loader=LOADER)
        if node is not None:
            _check_keys(node, origin, set())
        value = yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as error:
        raise UserError(f"{origin} is not YAML and cannot be parsed: {' '.join(str(error).split())}") from None
    except ValueError as error:  # 5,000 digits, or the 40th of May
        raise UserError(f"{origin} holds a number or date that cannot be read: {error}") from None
    _check_json(value, origin, "")
    return value


def check(text: str, origin: str, most: int) -> None:
    """Refuse text that is deeper, or stands for more values, than it should; nothing is built for that.

    An alias counts as all that its anchor holds, and inside its own anchor it would never end.
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchors of the collections around, and the count at their start
    count = 0
    try:
        for event in yaml.parse(text, Loader=LOADER):
            if isinstance(event, yaml.AliasEvent):
                if any(anchor == event.anchor for anchor, _ in open_):
                    raise UserError(f"{origin}: *{event.anchor} stands inside its own anchor: write it out")
                count += sizes.get(event.anchor, 1)
            elif isinstance(event, yaml.NodeEvent):
                count += 1 + len(getattr(event, "value", "")) // 1000  # a long text counts as what it takes
                if isinstance(event, yaml.CollectionStartEvent):
                    open_.append((event.anchor, count - 1))
                elif event.anchor:
                    sizes[event.anchor] = 1 + len(event.value) // 1000
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, start = open_.pop()
                if anchor:
                    sizes[anchor] = count - start
            if len(open_) > DEEPEST:
                raise UserError(f"{origin} is nested deeper than {DEEPEST} levels at line {event.start_mark.line + 1}")
            if count > most:
                raise UserError(f"{origin} stands for more than {most:,} values, its aliases (*name) written out")
    except yaml.YAMLError as error:
        raise UserError(f"{origin} is not YAML and cannot be parsed: {' '.join(str(error).split())}") from None


def _check_keys(node: yaml.Node, origin: str, seen: set[int]) -> None:
    """Refuse a key that occurs twice in one mapping; a mapping met again through an alias is not read again."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")) and _MISREAD.search(node.value):
        raise UserError(
            f"{origin}: line {node.start_mark.line + 1}: YAML reads {node.value} as another number: put it in quotes"
        )
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":bool") and node.value.lower() not in _TRUTHS:
        raise UserError(
            f"{origin}: line {node.start_mark.line + 1}: YAML reads {node.value} as true or false: put it in quotes if "
            "it is text, else write true or false"
        )
    if isinstance(node, yaml.MappingNode):
        known: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in known:
                    raise UserError(
                        f"{origin}: line {key.start_mark.line + 1} gives {key.value!r} again: keep one of them"
                    )
                known.add(key.value)
            _check_keys(value, origin, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value, origin, seen)


def _check_json(value: Any, origin: str, place: str) -> None:
    """Refuse what JSON, and so a Run, cannot hold."""
    here = f"{origin}{': ' + place if place else ''}"
    if isinstance(value, dict):
        for key, inside in value.items():
            if not isinstance(key, str):
                raise UserError(f"{here}: the key {key!r} is no text: put it in quotes")
            _check_json(inside, origin, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for number, inside in enumerate(value):
            _check_json(inside, origin, f"{place}.{number}")
    elif isinstance(value, int) and abs(value) >= LARGEST:
        raise UserError(
            f"{here}: a whole number of {value.bit_length()} bits is too large: put it in quotes if it is text"
        )
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{here}: {value} is no number of JSON: put it in quotes if it is text")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise UserError(f"{here}: {str(value)[:40]!r} is read as a {type(value).__name__}: put it in quotes")
