"""A dictionary in words: `jumprelu(l0=64, width=8192)` is the class in `variants/jumprelu.py` with these options."""

import hashlib
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from theodolite.core.code_hash import helpers_hash
from theodolite.core.discover import discover, load_file, name_of, origin
from theodolite.core.errors import UserError
from theodolite.core.methods import check_known, is_file, split, written
from theodolite.dictionaries.training.learner import Learner

PACKAGE, GROUP = "theodolite.dictionaries.variants", "theodolite.dictionaries"
# options of a Learner that a run sets for all its dictionaries
ELSEWHERE = {"d_in": "the site decides it", "seed": "use --seed", "frozen": "use --controls", "steps": "use --tokens"}
SIZE = ("width", "k")
_KINDS: dict[type, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "True or False"),
    str: (str, "a word"),
}
_NO_WORDS = {"true", "false", "none", "nan", "inf"}  # a folder of macOS or Windows does not tell `true` from `True`
LONGEST = 80  # characters of a slug: most systems allow 255 in a file name


@dataclass(frozen=True)
class Spec:
    """A variant's class with the parameters that were asked for."""

    name: str
    cls: type[Learner]
    params: dict[str, Any]

    def learner(self, d_in: int, **how: Any) -> Learner:
        """A dictionary before its first step; `how` are the run's own options: seed, frozen, steps."""
        try:
            return self.cls(d_in, **how, **self.params)
        except (TypeError, UserError) as error:
            raise UserError(f"dictionary {str(self)!r}: {error}") from None

    def filled(self, **defaults: Any) -> "Spec":
        """Return this spec with these parameters where its variant takes them and they are not set."""
        takes = {f.name for f in fields(self.cls)}
        return Spec(self.name, self.cls, {**{k: v for k, v in defaults.items() if k in takes}, **self.params})

    @property
    def label(self) -> str:
        """Part of a file's name that differs between variants of one size and seed; a plain TopK is `topk`."""
        return slug(self.name, {k: v for k, v in self.params.items() if k not in SIZE})

    @property
    def slug(self) -> str:
        """Part of a file's name that differs between all specs of one seed."""
        return slug(self.name, self.params)

    @property
    def identity(self) -> str:
        """The spec, for a class of the user's own with the hash of its file and of what that imports beside it."""
        code = origin(self.cls)
        if not code.startswith("sha256:"):
            return str(self)
        helpers = helpers_hash(Path(inspect.getfile(self.cls)))
        return f"{self} of {code}" + (f" with {helpers}" if helpers else "")

    def __str__(self) -> str:
        return written(self.name, self.params)


def parse(spec: str, registry: Mapping[str, type] | None = None) -> Spec:
    """Read `name` or `name(param=value, ...)`; `file.py:Class` may stand for the name.

    >>> parse("topk( width=64,k=4 )")
    Spec(name='topk', cls=<class 'theodolite.dictionaries.variants.topk.TopK'>, params={'k': 4, 'width': 64})
    """
    word, params, view = split(spec, "dictionary")
    if view is not None:
        raise UserError(f"cannot read dictionary {spec!r}: write name or name(param=value); its site is --sites")
    cls = load_file(word) if is_file(word) else (variants() if registry is None else registry)[word]
    if not issubclass(cls, Learner):
        raise UserError(
            f"dictionary {word!r}: {cls.__name__} must subclass theodolite.dictionaries.training.learner.Learner"
        )
    for param in params:
        if param in ELSEWHERE:
            raise UserError(f"{param} is no parameter of one dictionary ({spec!r}): {ELSEWHERE[param]}")
    check_known(params, cls, word)
    _check_types(params, cls, spec)
    return Spec(name_of(cls), cls, dict(sorted(params.items())))


def variants() -> Mapping[str, type]:
    """Every variant there is, by name: ours and those of installed packages."""
    return discover(PACKAGE, GROUP, kind="dictionary")


def crossed(specs: Iterable[Spec], widths: Iterable[int], k: int) -> list[Spec]:
    """Each spec at each width, and with this k, as far as it takes them and does not say so itself; none twice.

    >>> [str(s) for s in crossed([parse("topk"), parse("topk(width=64)")], [32, 128], 4)]
    ['topk(k=4, width=32)', 'topk(k=4, width=128)', 'topk(k=4, width=64)']
    """
    found = [spec.filled(width=width, k=k) for spec in specs for width in widths]
    ordered = [Spec(s.name, s.cls, dict(sorted(s.params.items()))) for s in found]
    return list({str(spec): spec for spec in ordered}.values())


def slug(name: str, params: Mapping[str, Any]) -> str:
    """Part of a file's name that differs between all specs of one seed.

    Two of them never share a slug: where a value cannot be read back from it, 8 digits of a sha256 end it.

    >>> slug("matryoshka", {"prefixes": [64, 128], "k": 8})
    'matryoshka-prefixes=64_128-k=8'
    >>> slug("mine", {"mode": "a b"}), slug("mine", {"mode": "a/b"})
    ('mine-mode=ab-6833b2ca', 'mine-mode=a_b-8c40c5e1')
    """
    whole = "-".join([name, *(f"{k}={v}" for k, v in params.items())])
    safe = re.sub(r"[^\w.=+-]+", "_", re.sub(r"[\[\]()' ]", "", whole))
    plain = all(map(_is_plain, params.values()))
    if plain and len(safe) <= LONGEST:
        return safe
    identity = whole if plain else repr((name, [*params.items()]))
    return f"{safe[:LONGEST]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _is_plain(value: Any) -> bool:
    """Return whether a slug shows this value as no other is shown: numbers, lists of several, words in lower case."""
    if isinstance(value, str):
        return re.fullmatch(r"[a-z][a-z0-9_]*", value) is not None and value not in _NO_WORDS
    if isinstance(value, list | tuple):
        return len(value) > 1 and all(type(v) in (int, float) and math.isfinite(v) for v in value)
    return value is None or isinstance(value, int | float)


def _check_types(params: dict[str, Any], cls: type[Learner], spec: str) -> None:
    """A whole number, a number or a word where the option is one; `width=4e3` would fail much later."""
    options = {f.name: f for f in fields(cls)}
    for name, value in params.items():
        kind = next((t for t in (options[name].type, *get_args(options[name].type)) if t in _KINDS), None)
        if kind is None or (value is None and options[name].default is None):
            continue
        kinds, word = _KINDS[kind]
        if not isinstance(value, kinds) or (kind is not bool and isinstance(value, bool)):
            raise UserError(f"{name}={value!r} of dictionary {spec!r} is not {word}")
