"""Advice for a contrast that is not decided, in words."""

from collections.abc import Mapping
from typing import Any

from theodolite.report.numbers import count


def needs_words(line: Mapping[str, Any]) -> str:
    """Write what a contrast needs, from its code and numbers (`core.verdict.Needs`); "" where it needs nothing.

    >>> needs_words({"needs": {"code": "more", "rows": 1200, "groups": 130, "seeds": 10}})
    'needs about 1,200 rows in 130 groups, and 10 seeds'
    """
    needs = line.get("needs") or {}
    code = needs.get("code", "")
    if code == "more":
        return _more(needs)
    if code == "inverted":
        return (
            f"AUROC of {' and '.join(line.get('inverted') or ['a method'])} significantly below .5: the classes are "
            "ranked the wrong way round here, so nothing is compared; look for what turns the label over on these "
            "rows, such as a negation or another label rule"
        )
    if code == "training rows":
        differ = f"refits differ by {needs['refits']:.3f}"
        return f"{differ}, more than rows or seeds can average away: needs more training rows"
    return {
        "": "",
        "seeds": f"needs at least {needs.get('seeds')} seeds",
        "no interval": str(needs.get("reason")),
        "unscored": "nothing was scored",
        "no error": "has no standard error",
        "luck": "a study of this size decides such a difference four times in five; this one does not",
        "many": f"needs more than {needs.get('times')} times these rows",
        "chosen here": "the reader was chosen with these rows: other training sets learn from them",
    }.get(code, str(code))


def _more(needs: Mapping[str, Any]) -> str:
    """Rows in groups, seeds, or both."""
    seeds = needs.get("seeds")
    if not needs.get("rows"):
        return f"more rows do not help; needs about {seeds} seeds"
    rows = f"needs about {count(needs['rows'])} rows in {count(needs['groups'])} groups"
    return f"{rows}, and {seeds} seeds" if seeds else rows
