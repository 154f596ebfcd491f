"""Sentences beside the primary contrasts: the text alone, decisions on other data sets, easy data sets."""

from typing import Any

from theodolite.report.answer_words import short_place
from theodolite.report.needs import needs_words
from theodolite.report.numbers import difference, p_equals, share
from theodolite.report.sheet import Sheet

DECIDED = {"better", "worse"}  # what a first page must name; the rest is in the figure
NAMED = 4  # decided contrasts named in the sentence; the figure shows all


def bands(sheet: Sheet) -> dict[str, dict[str, Any]]:
    """By data set: what random directions of the activations read there, each draw with its better sign."""
    return {band["dataset"]: band for band in _facts(sheet).get("random", [])}


def band_words(band: dict[str, Any]) -> str:
    """A band as numbers: lowest to highest draw.

    >>> band_words({"lo": 0.52, "hi": 0.89})
    '.520 to .890'
    """
    return f"{share(band['lo'])} to {share(band['hi'])}"


def sentences(sheet: Sheet) -> list[str]:
    """The paragraphs that follow the verdict's own sentence, as far as the run has what they speak of."""
    return [words for words in (text_alone(sheet), elsewhere(sheet), easy(sheet)) if words]


def text_alone(sheet: Sheet) -> str:
    """The strongest text-only baseline where the verdict is decided, against the best reader of the model."""
    facts = _facts(sheet)
    if not facts or not facts["chosen"]:
        return ""
    if not facts["text_only"]:
        return (
            ""
            if sheet.run.facts.get("from_arrays")
            else "No text-only method was run: what the text alone gives is unknown."
        )
    line = next((t for t in facts["text"] if t["dataset"] == sheet.decided_on), None)
    if line is None:
        return ""
    of = f"the highest of {line['n_text']} text-only methods on these rows" if line["n_text"] > 1 else "text only"
    adjusted = line["n_text"] > 1 and line["lo"] is not None
    picked = f", p {p_equals(line['p_adjusted'])} adjusted for that choice" if adjusted else ""
    needs = f"; {words}" if (words := needs_words(line)) else ""
    return (
        f"From the text alone: {sheet.phrase(line['than'])} (AUROC {share(line['than_level'])}), {of}. "
        f"Of the methods that read the model, the one with the lowest cross-validated log loss on training rows is "
        f"{sheet.phrase(line['method'])} ({share(line['level'])}): difference {difference(line)} "
        f"({line['verdict']}{picked}{needs})."
    )


def elsewhere(sheet: Sheet) -> str:
    """Contrasts that are decided on other data sets than the verdict's, the largest by name."""
    lines = [line for line in everywhere(sheet) if not line["primary"] and line["dataset"] != sheet.decided_on]
    decided = sorted((x for x in lines if x["verdict"] in DECIDED), key=lambda x: -abs(x["value"]))
    if not lines or not decided:
        return ""
    named = "; ".join(
        f"{sheet.phrase(x['method'])} is {x['verdict']} than {sheet.phrase(x['than'])} on "
        f"{short_place(sheet, x['dataset'])} ({difference(x)})"
        for x in decided[:NAMED]
    )
    more = f"; {len(decided) - NAMED} more are in the figure of all data sets" if len(decided) > NAMED else ""
    return (
        f"On the other data sets {len(decided)} of {len(lines)} contrasts show a difference, each tested on its own "
        f"({by_chance(len(lines))} would by chance alone): {named}{more}."
    )


def by_chance(tests: int) -> str:
    """Write how many of so many tests at .05 show a difference where there is none.

    >>> by_chance(60), by_chance(4)
    ('about 3', 'fewer than one')
    """
    return f"about {round(0.05 * tests)}" if 0.05 * tests >= 1 else "fewer than one"


def easy(sheet: Sheet) -> str:
    """Data sets that a direction which knows nothing reads too."""
    facts = _facts(sheet)
    found = [band for band in facts.get("random", []) if band["easy"]]
    if not found:
        return ""
    said = [f"{short_place(sheet, band['dataset'])} ({band_words(band)})" for band in found]
    return (
        f"Easy: {'; '.join(said)}. There random directions of the same activations, which know nothing of the labels "
        "but their sign, already tell the classes apart, so a high AUROC says little about a method."
    )


def everywhere(sheet: Sheet) -> list[dict[str, Any]]:
    """Every contrast on every data set: those fixed beforehand, and the chosen reader against the strongest text."""
    return list((sheet.run.read_json("verdict") or {}).get("everywhere", []))


def against_text(sheet: Sheet) -> list[dict[str, Any]]:
    """The chosen reader of the model against the strongest text-only method, a line per data set."""
    return list(_facts(sheet).get("text", []))


def _facts(sheet: Sheet) -> dict[str, Any]:
    found: dict[str, Any] = sheet.run.read_json("baselines") or {}
    return found
