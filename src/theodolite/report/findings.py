"""The first half of a report: what came out, and the data it came out of."""

from collections.abc import Sequence
from typing import Any

from theodolite.core.run import AGAINST, LEFT_OUT
from theodolite.report import answers, baselines, everywhere, poolings, selective, tables, verdict_words
from theodolite.report.blocks import Answers, Block, Facts, Figure, Fold, Points, Section, Text, absent
from theodolite.report.context import from_arrays, reads_dictionary
from theodolite.report.forest import contrasts, forest
from theodolite.report.heatmap import sites
from theodolite.report.needs import needs_words
from theodolite.report.numbers import count, difference, p_equals, share, size, span, upper
from theodolite.report.plots import k_sparse
from theodolite.report.sheet import Column, Sheet

QUICK = "Quick run: fewer rows, methods and training sets than the recipe asks for. To look at, not to report."
AT_HALF = "@p>0.5"  # ends the name of a rate at a probability of one half


def verdict(sheet: Sheet) -> Section:
    """The plain answers, then the contrasts fixed before the run; what is exploratory is folded."""
    found = sheet.run.read_json("verdict")
    facts = Facts(tuple(subject(sheet)))
    selected = [Text(words)] if (words := selective.summary(sheet)) else []
    blocks: list[Block] = [*_answers(sheet)]
    if not found:
        nothing = absent("This run fixed no contrasts, so there is nothing to decide; see the tables.")
        return Section("Verdict", [*blocks, facts, nothing, *selected])
    blocks += [
        Text(verdict_words.sentence(sheet), "" if blocks else "lead"),
        *map(Text, fixed_beside(sheet)),
        facts,
        *selected,
    ]
    if lines := found["contrasts"]:
        drawn = sheet.whiskers((line["lo"], line["hi"]) for line in lines)
        blocks += [
            Figure(
                contrasts(sheet, lines),
                f"The contrasts fixed before the run, on rows and training sets they share. {drawn}",
            ),
            tables.contrasts(sheet, lines, "The same contrasts in numbers."),
        ]
    blocks += _exploratory(sheet, found)
    return Section("Verdict", [*blocks, *(Text(note, "warning") for note in verdict_words.notes(sheet))])


def _answers(sheet: Sheet) -> list[Block]:
    """The plain answers, and behind them the rule of each."""
    lines = answers.headline(sheet)
    if not lines:
        return []
    shown: list[Block] = [Text(QUICK, "warning")] if sheet.run.recipe.get("quick") else []
    shown.append(Answers(tuple(lines)))
    shown.append(Fold("How each word follows from the numbers", (Points(tuple(answers.rules(sheet))),)))
    if others := answers.elsewhere(sheet):
        shown.append(Fold("The same questions on the other data sets (exploratory)", (Answers(tuple(others)),)))
    return shown


def _exploratory(sheet: Sheet, found: dict[str, Any]) -> list[Block]:
    """Contrasts that the recipe did not fix, folded: on every data set in one figure, and in numbers."""
    folded: list[Block] = []
    drawn = everywhere.blocks(sheet)
    told = [Text(words)] if (words := baselines.elsewhere(sheet)) else []
    if told or drawn:
        folded.append(Fold("Every contrast on every data set (exploratory)", (*told, *drawn)))
    if lines := found.get("exploratory"):
        said = (
            "Exploratory contrasts: words, intervals and the first p stand alone; the false-discovery column is "
            "adjusted over all exploratory contrasts at the matched site (Benjamini & Yekutieli, valid under any "
            "dependence)."
        )
        table = tables.contrasts(sheet, lines, said, corrected="")
        folded.append(Fold("Exploratory contrasts in numbers", (table,)))
    return folded


def beside(sheet: Sheet) -> list[str]:
    """The paragraphs after the verdict's own sentence: text, other data sets, easy ones, pooling."""
    return [words for words in (*baselines.sentences(sheet), poolings.sentence(sheet)) if words]


def fixed_beside(sheet: Sheet) -> list[str]:
    """Return the same paragraphs without the exploratory one, which a page folds."""
    return [words for words in beside(sheet) if words != baselines.elsewhere(sheet)]


def subject(sheet: Sheet) -> list[tuple[str, str]]:
    """Model, site, dictionary and repetitions: what every sentence of the verdict is about."""
    run, model = sheet.run, sheet.run.facts.get("model") or {}
    repeats = f"{run.recipe.get('seeds')} training sets of {count(run.facts.get('labels'))} labelled"
    if from_arrays(sheet):
        return [("Read", "rows that were given: no text, no model"), ("Repeated over", f"{repeats} rows")]
    name = str(model.get("name", run.recipe.get("model")))
    if model.get("parameters"):
        name += f" ({size(model['parameters'])} parameters, {model.get('quantisation') or 'weights as published'})"
    where = f"{run.recipe.get('site')}, {sheet.way(run.recipe.get('pooling'), run.recipe.get('positions'))}"
    return [
        ("Model", name),
        ("Site", where),
        ("Dictionary", _dictionary(sheet)),
        ("Repeated over", f"{repeats} texts"),
    ]


def _dictionary(sheet: Sheet) -> str:
    """Name what the latents come from: by its card, else by its name."""
    if card := sheet.run.read_json("card"):
        return f"{count(card.get('width'))} latents trained on {size(card['tokens'])} tokens"
    if not reads_dictionary(sheet):
        return "none: no SAE rows in this run"
    return f"{', '.join(sheet.run.facts.get('fvu') or ['one'])} without a card"


def sentence(sheet: Sheet, line: dict[str, Any]) -> str:
    """One contrast in words."""
    needs = f" ({words})" if (words := needs_words(line)) else ""
    return (
        f"{upper(sheet.phrase(line['method']))} minus {sheet.phrase(line['than'])} on {line['dataset']}: AUROC "
        f"{difference(line)}, {_holm(line)}n = {count(line['n'])} in "
        f"{count(line['n_groups'])} groups: {line['verdict']}{needs}."
    )


def matched(sheet: Sheet) -> Section:
    """Every method at the dictionary's own site and pooling."""
    words = (
        "Every method read the same rows at the same site and pooling: this table alone speaks about latents against "
        "directions against probes."
    )
    if from_arrays(sheet):
        words = "Every method read the same rows."
    words += " Groups and order are the recipe's, not the result's."
    caption = f"All methods at one site: {sheet.figures}."
    table = tables.auroc(sheet, "matched", sheet.columns("matched"), caption)
    return Section("All methods at one site", [Text(words), table, *poolings.blocks(sheet)])


def free(sheet: Sheet) -> Section:
    """Every method at the site it chose for itself."""
    if not sheet.entries("free"):
        one = "Rows were given" if from_arrays(sheet) else "This run read one site only"
        return Section("Each method at the site it chose", [absent(f"{one}, so no method could choose its own site.")])
    words = (
        "Each method at the site it chose by cross-validated log-loss on training rows; test rows had no part in it. "
        "A reader of latents can only choose among sites that have a dictionary."
    )
    caption = f"Each method at the site it chose: {sheet.figures}."
    return Section(
        "Each method at the site it chose", [Text(words), tables.auroc(sheet, "free", sheet.columns("free"), caption)]
    )


def inside(sheet: Sheet) -> Section:
    """In distribution: the left-out sources, and the mix under the name it deserves."""
    columns = [c for c in sheet.columns("matched") if c.kind in {"left-out", "mix"}]
    chart = forest(sheet, columns) if columns else None
    if chart is None:
        return Section("In distribution", [absent("This run scored no rows from its training distribution.")])
    left_out = "The headline is the left-out source: that source's rows were kept out of training. "
    words = "Test rows of the one file that was trained on."
    if from_arrays(sheet):
        words = "Test rows are a part of those that were given."
    elif sheet.several_sources:
        words = (
            "The training mix is shown as source recognition, because texts of one label often come from sources of "
            "their own, and telling those apart is enough."
        )
    if any(c.kind == "left-out" for c in columns):
        words = left_out + words
    return Section("In distribution", [Text(words), Figure(chart, f"In distribution. {_read_as(sheet, columns)}")])


def shifted(sheet: Sheet) -> Section:
    """The primary shift pooled and within template, then the others."""
    columns = [c for c in sheet.columns("matched") if c.kind in {"primary", "shift"}]
    if not columns:
        what = "rows" if from_arrays(sheet) else "text"
        return Section("Under shift", [absent(f"This run has no shift: nothing is known about new kinds of {what}.")])
    blocks: list[Block] = []
    primary = [c for c in columns if c.kind == "primary"]
    if len(primary) > 1:
        blocks.append(
            Text(
                "Pooled over templates is the primary figure, since a deployed threshold does not know the template; "
                "within template removes what a template does to every score."
            )
        )
    for part, name in (
        (primary, "Primary shift"),
        ([c for c in columns if c.kind == "shift"], "Other shifts, exploratory"),
    ):
        chart = forest(sheet, part) if part else None
        if chart:
            blocks.append(Figure(chart, f"{name}. {_read_as(sheet, part)}"))
    dataset = (primary or columns)[0].dataset
    for only, caption in (
        (
            "(?!auroc)",
            f"Other metrics on {dataset}. Thresholds were fixed on training folds: where the realised FPR is near 1, a "
            "method flags everything there, and its TPR says nothing.",
        ),
        ("auroc", f"AUROC on {dataset}: the parts of its standard error, and what averaging the scores would give."),
    ):
        if table := tables.metrics(sheet, "matched", dataset, caption, only):
            blocks.append(table)
    notes = [
        f"{name}: {shift['note']}" for name, shift in sheet.run.recipe.get("shifts", {}).items() if shift.get("note")
    ]
    return Section("Under shift", [*([Points(tuple(notes))] if notes else []), *blocks])


def where(sheet: Sheet) -> Section:
    """AUROC by block."""
    chart = sites(sheet)
    if chart is None:
        return Section("Where it can be read", [absent("This run did not sweep the blocks.")])
    caption = (
        "AUROC x 100 of dense methods at every block, parameters fixed. Framed: the matched site. The best cell is no "
        "result: it was picked among many on the rows it is scored on."
    )
    return Section("Where it can be read", [Figure(chart, caption)])


def how_many(sheet: Sheet) -> Section:
    """The k-sparse curve."""
    chart = k_sparse(sheet)
    if chart is None:
        why = "No k-sparse reader was fitted at several k" if reads_dictionary(sheet) else "There is no dictionary"
        return Section("How many latents it takes", [absent(f"{why}, so there is no k-sparse curve.")])
    caption = (
        "A logistic on the k latents that training rows chose, against the dense probe, and on latents of an SAE whose "
        "encoder was never trained: what that control also reaches is no evidence for learned features."
    )
    columns = sheet.headline("matched")
    return Section("How many latents it takes", [Figure(chart, f"{caption} {_lines(sheet, columns)}")])


def refusal(sheet: Sheet) -> Section:
    """Benign texts that look harmful: how many each method would flag, and beside it how many real ones.

    Sets of one label that are a user's own (`one_class`) are called that: nothing says that they look harmful.
    """
    shifts = sheet.run.recipe.get("shifts", {})
    names = [name for name, shift in shifts.items() if shift.get("over_refusal")]
    detected = [name for name, shift in shifts.items() if shift.get("one_class") and not shift.get("over_refusal")]
    own = any(shift.get("one_class") for shift in shifts.values())
    said = "texts of label 0 only: share flagged"
    beside = "the same beside the share of a left-out source's positives: who flags nothing flags none of those either"
    blocks: list[Block] = []
    for name in names:
        versus = [
            d for d in dict.fromkeys(sheet.rows["dataset"]) if d.startswith(LEFT_OUT) and d.endswith(f"{AGAINST}{name}")
        ]
        found = [
            tables.metrics(sheet, "matched", name, f"{upper(name)}, {said}{_at(sheet, name, 'fpr@')}.", only="fpr@")
        ]
        found += [tables.metrics(sheet, "matched", d, f"{upper(d)}, {beside}.", only="(tpr|fpr)@") for d in versus]
        blocks += [table for table in found if table]
    for name in detected:
        caption = f"{upper(name)}, texts of label 1 only: share detected{_at(sheet, name, 'tpr@')}."
        if table := tables.metrics(sheet, "matched", name, caption, only="tpr@"):
            blocks.append(table)
    return Section(
        "Sets of one class" if own else "Over-refusal", blocks or [absent("This recipe has no over-refusal set.")]
    )


def rates(sheet: Sheet) -> list[str]:
    """One line for each set of one label: what share of it the reference method flags at a probability of .5."""
    lines = []
    for name, shift in sheet.run.recipe.get("shifts", {}).items():
        if not (shift.get("one_class") or shift.get("over_refusal")):
            continue
        label = 0 if shift.get("over_refusal") else 1
        column = sheet.column(name, f"{'tpr' if label else 'fpr'}{AT_HALF}")
        entries = sheet.entries("matched", [column])
        entry = next((e for e in entries if e.method == sheet.reference), entries[0] if entries else None)
        cell = sheet.cell("matched", entry.method, entry.site, column) if entry else None
        if entry and cell:
            interval = f" {span(cell.lo, cell.hi)}".rstrip()
            lines.append(
                f"{name} (label {label} only): {sheet.phrase(entry.method)} {'detects' if label else 'flags'} "
                f"{share(cell.value)}{interval} of {count(cell.n)} texts at a probability of .5"
            )
    return lines


def _at(sheet: Sheet, dataset: str, kind: str) -> str:
    """At which thresholds a table of rates stands, from the columns that the run has."""
    rows = sheet.rows[(sheet.rows["task"] == "matched") & (sheet.rows["dataset"] == dataset)]
    found = [metric for metric in rows["metric"].unique() if metric.startswith(kind)]
    where = ["at a probability of .5"] if any(metric.endswith(AT_HALF) for metric in found) else []
    where += ["at thresholds fixed on training folds"] if any(not m.endswith(AT_HALF) for m in found) else []
    return f", {' and '.join(where)}" if where else ""


def _read_as(sheet: Sheet, columns: Sequence[Column]) -> str:
    """Write what is drawn in a forest plot of these data sets."""
    band = " Grey band: random directions, each draw with its better sign." if baselines.bands(sheet) else ""
    drawn = _lines(sheet, columns, points=True)
    return f"{drawn} Dashed line: chance; thin line: {sheet.phrase(sheet.reference)}.{band}"


def _lines(sheet: Sheet, columns: Sequence[Column], points: bool = False) -> str:
    """Write what the lines beside the methods' points mean on these data sets; controls have their own."""
    cells = [
        cell
        for entry in sheet.entries("matched", columns)
        for column in columns
        if entry.group.key != "chance" and (cell := sheet.cell("matched", entry.method, entry.site, column))
    ]
    return sheet.whiskers(((c.lo, c.hi) for c in cells), points=points and any(c.points for c in cells))


def _holm(line: dict[str, Any]) -> str:
    """The p-value after Holm; none where there is no interval either."""
    return "" if line["lo"] is None else f"Holm p {p_equals(line['p_holm'])}, "
