"""Numbers in text: one rounding for every table, figure and sentence of a report."""

import math
from collections.abc import Mapping
from typing import Any

NONE = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def share(value: float | None) -> str:
    """A number near [0, 1] with three decimals and no leading zero; a dash when unscored.

    >>> share(0.8344), share(1.0), share(2.41), share(float("nan")) == NONE
    ('.834', '1.000', '2.410', True)
    """
    if missing(value):
        return NONE
    text = f"{abs(value):.3f}".removeprefix("0")  # type: ignore[arg-type]
    return _MINUS + text if value < 0 and text != ".000" else text  # type: ignore[operator]


def signed(value: float | None) -> str:
    """A difference, with its sign.

    >>> signed(0.0344), signed(0.0)
    ('+.034', '.000')
    """
    text = share(value)
    return text if missing(value) or text == ".000" or value <= 0 else "+" + text  # type: ignore[operator]


def short(value: float, *, sign: bool = False) -> str:
    """A number on an axis, without trailing zeros.

    >>> short(0.5), short(1.0), short(0.02, sign=True), short(0.0)
    ('.5', '1', '+.02', '0')
    """
    return (signed if sign else share)(value).rstrip("0").removesuffix(".") or "0"


def within(margin: float) -> str:
    """A margin as it was asked for: a rounded one would be another.

    >>> within(0.02), within(0.0125)
    ('.02', '.0125')
    """
    return f"{margin:g}".lstrip("0")


def span(lo: float | None, hi: float | None, *, sign: bool = False) -> str:
    """An interval; empty when there is none.

    >>> span(0.791, 0.872), span(float("nan"), 1.0)
    ('[.791, .872]', '')
    """
    write = signed if sign else share
    return "" if missing(lo) or missing(hi) else f"[{write(lo)}, {write(hi)}]"


def difference(line: Mapping[str, Any]) -> str:
    """The difference of a contrast with its interval, where it has one.

    >>> difference({"value": 0.034, "lo": 0.012, "hi": 0.056}), difference({"value": 0.034, "lo": None, "hi": None})
    ('+.034 [+.012, +.056]', '+.034')
    """
    return f"{signed(line['value'])} {span(line['lo'], line['hi'], sign=True)}".strip()


def count(value: float | None) -> str:
    """A whole number with thousands marked.

    >>> count(12345)
    '12,345'
    """
    return NONE if missing(value) else f"{round(value):,}"  # type: ignore[arg-type]


def size(value: float | None) -> str:
    """Parameters, tokens: three digits at most.

    >>> size(134_515_008), size(2_050_000), size(1_540_000_000), size(812)
    ('135M', '2.05M', '1.54B', '812')
    """
    if missing(value):
        return NONE
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:  # type: ignore[operator]
            return f"{value / unit:.3g}{letter}"  # type: ignore[operator]
    return str(round(value))  # type: ignore[arg-type]


def p_equals(p: float | None) -> str:
    """A p value behind the word for it.

    >>> f"p {p_equals(0.0003)}", f"p {p_equals(0.0421)}"
    ('p < .001', 'p = .042')
    """
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def p_value(p: float | None) -> str:
    """A p value, never zero.

    >>> p_value(0.0003), p_value(0.0421)
    ('< .001', '.042')
    """
    if missing(p):
        return NONE
    return "< .001" if p < 0.001 else share(p)  # type: ignore[operator]


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    >>> duration(0.42), duration(95), duration(5400)
    ('0.4 s', '1 min 35 s', '1 h 30 min')
    """
    if missing(seconds):
        return NONE
    if seconds < 59.5:  # type: ignore[operator]
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)  # type: ignore[arg-type]
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def missing(value: object) -> bool:
    """Return whether a value is missing: None or NaN.

    >>> missing(None), missing(math.nan), missing(0.0)
    (True, True, False)
    """
    return value is None or (isinstance(value, float) and math.isnan(value))


def upper(words: str) -> str:
    """The words with a capital at the start and nothing else changed.

    >>> upper("k-sparse logistic on SAE latents")
    'K-sparse logistic on SAE latents'
    """
    return words[:1].upper() + words[1:]
