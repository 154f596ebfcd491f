"""The verdict's own sentence and its notes, written from the facts in verdict.json."""

from collections.abc import Mapping
from typing import Any

from theodolite.core.run import IN_DISTRIBUTION
from theodolite.core.stats import FEWEST_SEEDS
from theodolite.report.numbers import missing, share, signed, span, within
from theodolite.report.sheet import Sheet

JOINED = {
    "better": "better than",
    "worse": "worse than",
    "equivalent": "equivalent to",
    "non-inferior": "non-inferior to",
    "undecided": "undecided against",
}


def sentence(sheet: Sheet) -> str:
    """Write the sentence to quote: data set, n, what was read, each primary contrast with its word."""
    found = sheet.run.read_json("verdict")
    if not found:
        return "No contrasts were fixed, so nothing is decided."
    primary, read = found["contrasts"], subject(found.get("read") or {})
    reading = f", reading {read}" if read else ""
    if not primary:
        where = _where(found.get("dataset") or sheet.decided_on)
        return f"{sheet.run.recipe.get('title')}{reading}: no contrast could be run on {where}."
    sizes = sorted({line["n"] for line in primary})  # a contrast has the rows that both methods have scored
    n = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    fewest = min(line["n_groups"] for line in primary)
    seeds = primary[0].get("n_seeds") or sheet.run.recipe.get("seeds")
    counted = f"n = {n}, at least {fewest} groups per class, {seeds} training sets"
    parts = "; ".join(_compared(sheet, line) for line in primary)
    return f"AUROC on {_where(primary[0]['dataset'])} ({counted}){reading}: {parts}."


def subject(read: Mapping[str, Any]) -> str:
    """Write what was read: columns of the caller's rows, or site, model and dictionaries.

    >>> subject({"columns": 12})
    '12 columns of X'
    >>> subject({"site": "blocks.1.resid_post", "model": "tiny", "parameters": 2_000_000, "dictionaries": 0})
    'blocks.1.resid_post of tiny (2M; no dictionary)'
    """
    if not read:
        return ""
    if "columns" in read:
        return f"{read['columns']} columns of X"
    size = f"{read['parameters'] / 1e6:.0f}M" + (f", {read['quantisation']}" if read.get("quantisation") else "")
    return f"{read['site']} of {read['model']} ({size}; {_dictionaries(read)})"


def notes(sheet: Sheet) -> list[str]:
    """Write the notes of the verdict: what was not run, and what limits the words of the contrasts."""
    found = sheet.run.read_json("verdict") or {}
    return [note(sheet, facts) for facts in found.get("notes") or []]


def note(sheet: Sheet, facts: Mapping[str, Any]) -> str:
    """Write one note from its code and what it is about."""
    code = facts["code"]
    if code == "margin":
        return _margin(sheet, facts)
    if code == "outside domain":
        listed = ", ".join(f"{share(error)} on {_where(dataset)}" for dataset, error in facts["fvu"].items())
        return (
            f"Dictionary {facts['dictionary']} leaves much of the variance unexplained (FVU {listed}). The section on "
            "the dictionary concludes from contrasts whether that limits SAE rows there."
        )
    if code == "inverted":
        methods = ", ".join(sheet.phrase(method) for method in facts["methods"])
        where = _where(facts["dataset"])
        return (
            f"On {where} the AUROC of {methods} is significantly below .5: scores point to the other "
            "label. A method that reads the concept there reads it with the sign turned over, as after a negation in "
            "these texts or under another rule for their label. Check both before you conclude anything."
        )
    if code == "not run":
        return f"{sheet.phrase(facts['method'])} against {sheet.phrase(facts['than'])}: not run"
    return {
        "no dictionary": "No dictionary for the matched site: SAE rows are absent, and this says nothing about SAEs.",
        "one dictionary": "One dictionary: the intervals do not include what another training seed of it would change.",
    }.get(code, str(code))


def _margin(sheet: Sheet, facts: Mapping[str, Any]) -> str:
    """A margin beside the share of pairs of a positive and a negative in the wrong order."""
    one, other, better, rest = (sheet.phrase(facts[name]) for name in ("method", "than", "better", "other"))
    error, margin = facts["error"], facts["margin"]
    return (
        f"{one} against {other}: {better} puts {100 * error:.2g} % of pairs in the wrong order; {facts['verdict']} "
        f"within {within(margin)} leaves room for {100 * (error + margin):.2g} % of {rest}. Give a smaller --margin "
        "where that matters."
    )


def _compared(sheet: Sheet, line: Mapping[str, Any]) -> str:
    """One contrast in words, with the level of both methods; an inverted one is not compared."""
    one, other = sheet.phrase(line["method"]), sheet.phrase(line["than"])
    level, than_level = share(line.get("level")), share(line.get("than_level"))
    if line.get("inverted"):
        wrong = " and ".join(sheet.phrase(method) for method in line["inverted"])
        return f"{one} ({level}) and {other} ({than_level}) are not compared: {wrong} inverted, AUROC below .5"
    return f"{one} ({level}) is {JOINED.get(line['verdict'], line['verdict'])} {other} ({than_level}; {_signed(line)})"


def _signed(line: Mapping[str, Any]) -> str:
    words = f"difference {signed(line['value'])}"
    if not missing(line["lo"]):
        return f"{words} {span(line['lo'], line['hi'], sign=True)}"
    few = line.get("n_seeds", FEWEST_SEEDS) < FEWEST_SEEDS
    return f"{words}, " + ("too few seeds for an interval" if few else f"no interval: {line.get('no_interval')}")


def _dictionaries(read: Mapping[str, Any]) -> str:
    if not read.get("dictionaries"):
        return "no dictionary"
    trained = f" trained on {read['tokens'] / 1e6:.1f}M tokens" if read.get("tokens") else ""
    number = "one dictionary" if read["dictionaries"] == 1 else f"{read['dictionaries']} dictionaries"
    return f"{number} of {read['width']} latents{trained}"


def _where(dataset: str) -> str:
    return "the test rows" if dataset == IN_DISTRIBUTION else dataset
