"""Planted intervals for the tests of plain answers: made up here, and nothing of it was measured."""

from typing import Any

MARGIN, WELL = 0.02, 0.7
N, GROUPS = 300, 120


def level(method: str, value: float | None, half: float | None = 0.03, **more: Any) -> dict[str, Any]:
    """The AUROC of one method; half: of its interval, None where it has none."""
    lo, hi = (None, None) if half is None or value is None else (value - half, min(1.0, value + half))
    numbers = {"value": value, "lo": lo, "hi": hi, "n": N, "n_groups": GROUPS, "n_seeds": 5, "why": ""}
    return {"method": method} | numbers | more


def line(method: str, than: str, lo: float | None, hi: float | None, **more: Any) -> dict[str, Any]:
    """A difference between these ends."""
    value = None if lo is None or hi is None else (lo + hi) / 2
    numbers = {"value": value, "lo": lo, "hi": hi, "n": N, "n_groups": GROUPS, "n_seeds": 5, "family": 1}
    return {"method": method, "than": than} | numbers | {"margin_is_seen": True, "why": "", "about": []} | more


def entry(dataset: str, **more: Any) -> dict[str, Any]:
    """A data set with both labels of which nothing else is known."""
    nothing: dict[str, Any] = {"levels": [], "inverted": [], "silent": [], "leader": "", "leads": []}
    return {"dataset": dataset, "n": N, "both_labels": True} | nothing | {"model": [], "dictionary": []} | more


def ranked(
    dataset: str, levels: dict[str, float], leads: dict[str, tuple[float, float]], **more: Any
) -> dict[str, Any]:
    """A data set whose first method leads the others by these intervals."""
    leader = next(iter(levels))
    return entry(
        dataset,
        levels=[level(method, value) for method, value in levels.items()],
        leader=leader,
        leads=[line(leader, than, *ends) for than, ends in leads.items()],
        **more,
    )


def document(*entries: dict[str, Any]) -> dict[str, Any]:
    """The artefact answers.json."""
    return {"margin": MARGIN, "read_well_from": WELL, "datasets": list(entries)}
