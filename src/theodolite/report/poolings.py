"""Poolings of a text's tokens to one row: what another pooling gives on the fixed contrasts, and why this one."""

from typing import Any

from theodolite.report.blocks import Block, Line, Table, Value, number
from theodolite.report.numbers import NONE, share, span, upper
from theodolite.report.sheet import Sheet
from theodolite.report.tables import verdict_cell

Found = dict[str, dict[str, list[dict[str, Any]]]]  # by pooling, the run's own first: contrasts and levels


def sentence(sheet: Sheet) -> str:
    """Write what the reference reads with every pooling on the decisive data set, and which verdicts would differ."""
    found = _found(sheet)
    where = sheet.decided_on
    own, *others = (_level(part, sheet.reference, where) for part in found.values()) if found else [None]
    if own is None or not any(others):
        return ""
    names = [_way(sheet, pooling) for pooling in found]
    read = ", ".join(
        f"{share(level['value'])} ({name})" for name, level in zip(names[1:], others, strict=True) if level
    )
    mine, *theirs = (_words(part, where) for part in found.values())
    changed = [
        f"{sheet.phrase(pair[0])} against {sheet.phrase(pair[1])} is {words[pair]} with {name}"
        for name, words in zip(names[1:], theirs, strict=True)
        for pair in mine
        if pair in words and words[pair] != mine[pair]
    ]
    given = any(line["lo"] is not None for part in found.values() for line in part["contrasts"])
    verdicts = " No verdict on a fixed contrast changes with it." if given else ""
    if given and all(word == "undecided" for words in (mine, *theirs) for word in words.values()):
        verdicts = " Every fixed contrast is undecided with each of them, so this says nothing of what pooling decides."
    if changed:
        verdicts = f" Verdicts that differ: {'; '.join(changed)}."
    return (
        f"Pooling: {sheet.phrase(sheet.reference)} has AUROC {share(own['value'])} ({names[0]}); with another pooling "
        f"of the same texts {read}.{verdicts}"
    )


def blocks(sheet: Sheet) -> list[Block]:
    """The fixed contrasts under every pooling, and the candidates where the recipe left pooling or positions open."""
    return [*_others(sheet), *_candidates(sheet)]


def _others(sheet: Sheet) -> list[Block]:
    found = _found(sheet)
    if len(found) < 2:
        return []
    datasets = dict.fromkeys(line["dataset"] for part in found.values() for line in part["contrasts"])
    order = [c.dataset for c in sheet.columns("matched") if c.dataset in datasets and c.metric == "auroc"]
    lines: list[Line] = []
    for dataset in order:
        column = sheet.column(dataset)
        lines.append(Line((Value(f"{column.title} ({column.subtitle})"), *[Value("")] * len(found)), heading=True))
        levels = [_level(part, sheet.reference, dataset) for part in found.values()]
        name = Value(f"AUROC of {sheet.phrase(sheet.reference)}")
        lines.append(Line((name, *(_number(level) for level in levels))))
        pairs = dict.fromkeys((x["method"], x["than"]) for part in found.values() for x in part["contrasts"])
        for pair in pairs:
            cells = [_contrast(part, pair, dataset) for part in found.values()]
            phrase = Value(upper(sheet.phrase(pair[0])), f"minus {sheet.phrase(pair[1])}")
            lines.append(Line((phrase, *(verdict_cell(cell) if cell else number(NONE) for cell in cells))))
    head = (
        Value("AUROC and differences in it"),
        *(number(upper(_way(sheet, p)), "" if at else "this run") for at, p in enumerate(found)),
    )
    said = (
        "The fixed contrasts where the tokens of a text are pooled another way, at the matched site and with the same "
        "search. Words under another pooling are exploratory and follow the rules of this run's own: where the verdict "
        "is decided, corrected after Holm over the contrasts of that pooling alone; elsewhere each on its own."
    )
    return [Table(said, head, tuple(lines))]


def _candidates(sheet: Sheet) -> list[Block]:
    chosen = sheet.run.facts.get("pooling")
    if not chosen:
        return []
    head = (Value("Positions"), Value("Pooling"), number("Log loss"), Value("Chosen"))
    lines = [
        Line(
            (
                Value("last token of all" if c["pooling"] == "last" else c["positions"]),
                Value(c["pooling"]),
                number(share(c["log_loss"])),
                Value("yes" if {key: c[key] for key in ("positions", "pooling")} == chosen["chosen"] else ""),
            )
        )
        for c in chosen["candidates"]
    ]
    caption = (
        f"How pooling and positions were chosen: log loss (nats) of {chosen['reader']} on out-of-fold training rows, "
        f"the mean over training sets; the lowest of {len(chosen['candidates'])} was taken. No shift row had a part in "
        "it. A row that one training set learns from may be a test row of another, so that in-distribution figures may "
        "gain a little from the choice."
    )
    return [Table(caption, head, tuple(lines))]


def _found(sheet: Sheet) -> Found:
    found: Found = sheet.run.read_json("poolings") or {}
    return found


def _way(sheet: Sheet, pooling: str) -> str:
    return sheet.way(pooling, sheet.run.recipe.get("positions"))


def _level(part: dict[str, list[dict[str, Any]]], method: str, dataset: str) -> dict[str, Any] | None:
    return next((x for x in part["levels"] if (x["method"], x["dataset"]) == (method, dataset)), None)


def _contrast(part: dict[str, list[dict[str, Any]]], pair: tuple[str, str], dataset: str) -> dict[str, Any] | None:
    return next((x for x in part["contrasts"] if (x["method"], x["than"], x["dataset"]) == (*pair, dataset)), None)


def _words(part: dict[str, list[dict[str, Any]]], dataset: str) -> dict[tuple[str, str], str]:
    return {(x["method"], x["than"]): x["verdict"] for x in part["contrasts"] if x["dataset"] == dataset}


def _number(line: dict[str, Any] | None) -> Value:
    return number(NONE) if line is None else number(share(line["value"]), span(line["lo"], line["hi"]))
