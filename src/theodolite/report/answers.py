"""Plain answers: one line and one word per question, which open the page, the terminal's output and a notebook's cell.

A word follows from an interval by a rule that is printed with it (`rules`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from theodolite.core.run import Run
from theodolite.report.answer_words import (
    AHEAD,
    BEHIND,
    EQUIVALENT,
    INCONCLUSIVE,
    NO,
    NOBODY,
    TIED,
    UNASKED,
    UNDECIDED,
    UNRANKED,
    YES,
    Answer,
    Line,
    counted,
    decided,
    low,
    minus,
    not_ahead,
    other_of,
    outcome,
    place_of,
    printed,
    range_of,
    short_place,
    why,
    with_numbers,
)
from theodolite.report.context import from_arrays
from theodolite.report.names import untrained
from theodolite.report.numbers import count, missing, share, signed, span, upper, within
from theodolite.report.numbers import difference as written
from theodolite.report.selective_answer import selection
from theodolite.report.sheet import Sheet

NAMED = 3  # data sets named beside an answer; more are counted, and all are in the fold
_KINDS = {
    "answer": "the model's own answers",
    "embedding": "readers of token embeddings",
    "sentence": "readers of the sentence embedding",
    "text": "methods on the text alone",
}


def answers_of(run: Run) -> list[Answer]:
    """Return the plain answers of a finished run.

    First who is ahead on every data set, then the other questions where the recipe's contrasts are decided, then the
    same questions on all other data sets.

    >>> answers_of(theodolite.open_run("runs/mine").run)[0].word  # doctest: +SKIP
    'ahead'
    """
    return answers(Sheet(run))


def answers(sheet: Sheet) -> list[Answer]:
    """Return the plain answers of a run that a sheet holds; the headline ones come first."""
    return [*headline(sheet), *elsewhere(sheet)]


def headline(sheet: Sheet) -> list[Answer]:
    """Return the answers that open a report: who is ahead everywhere, and one line for each other question."""
    found = _found(sheet)
    if not found or not found["datasets"]:
        return []
    lines = [_ahead(sheet, entry, found) for entry in _ordered(sheet, found)]
    if not from_arrays(sheet):
        lines += [_where_decided(sheet, found, ask) for ask in (_model, _dictionary)]
        lines.append(selection(sheet))
    return lines


def elsewhere(sheet: Sheet) -> list[Answer]:
    """Return the answers on data sets on which the recipe decides nothing: exploratory, and folded on a page."""
    found = _found(sheet)
    if not found or from_arrays(sheet):
        return []
    entries = [e for e in _ordered(sheet, found) if e["dataset"] != sheet.decided_on and e["both_labels"]]
    asked = [ask(sheet, entry, found) for ask in (_model, _dictionary) for entry in entries]
    return [answer for answer in asked if answer.word != UNASKED]


def rules(sheet: Sheet) -> list[str]:
    """Return one sentence for each question that says how its word follows from the numbers."""
    found = _found(sheet)
    margin, well = within(found["margin"]), share(found["read_well_from"])
    said = [
        f"Ahead: the method with the highest AUROC on these rows, where the interval of its lead over every other "
        f"method (or over every method that reads something else) lies above 0. The intervals hold with 95 % for the "
        f"choice of the highest too: Bonferroni's correction over all other methods, as in a multiple comparison with "
        f"the best (Hsu 1981). Not told apart: the interval of some lead includes 0. Equivalent: no method that may be "
        f"the best differs by {margin} or more. Nobody: the 95 % interval of every method ends below {well}. A "
        "method that ranks the classes the wrong way round is no candidate.",
    ]
    if not from_arrays(sheet):
        said += [
            "A model was needed: the method that reads the model and that cross-validation on training rows chooses, "
            "minus the strongest text-only method on these rows, lies above 0; corrected for the number of text-only "
            "methods, and on test rows also for the number of readers, because a test row of one split is a training "
            f"row of another. No: the whole interval lies below 0 or within {margin}.",
            "The dictionary was needed: some reader of latents, or of latents beside the dense state, lies above the "
            "same reader of the dense state, and some reader of latents above the same reader of a dictionary whose "
            f"encoder was never trained. No: no such difference can be {margin} or more. All these differences of a "
            "data set are corrected together.",
            "Single predictions may be relied on: the accuracy asked holds for every reader on every shift. No: it "
            "fails somewhere, or nothing is accepted anywhere.",
        ]
    return [
        *said,
        "Not told apart, inconclusive and undecided mean the same: the interval allows more than one answer.",
        "The intervals of these answers are corrected, so they are wider than those of the same differences elsewhere "
        "on the page. The answers on different data sets are not corrected for the number of data sets.",
    ]


def _found(sheet: Sheet) -> dict[str, Any]:
    found: dict[str, Any] = sheet.run.read_json("answers") or {}
    return found


def _ordered(sheet: Sheet, found: Line) -> list[dict[str, Any]]:
    """Data sets in the order of the tables, those of one label last."""
    place = {column.dataset: at for at, column in enumerate(sheet.columns("matched"))}
    return sorted(found["datasets"], key=lambda e: (not e["both_labels"], place.get(e["dataset"], len(place))))


def _ahead(sheet: Sheet, entry: dict[str, Any], found: Line) -> Answer:
    """Answer who is ahead on one data set."""
    levels = [level for level in entry["levels"] if not missing(level["value"])]
    answer = Answer("ahead", entry["dataset"], place_of(sheet, entry["dataset"]), UNASKED, "", n=entry["n"])
    if not entry["both_labels"]:
        words = f"All {count(entry['n'])} rows have one label, so nothing is ranked; see the share that is flagged."
        return replace(answer, word=UNRANKED, sentence=words)
    if len(levels) < 2:
        return replace(
            answer, word=UNRANKED, sentence="Fewer than two methods that learn have a score here: nothing to compare."
        )
    answer = replace(answer, detail=_wrong_way(sheet, entry))
    first = next((level for level in levels if level["method"] == entry["leader"]), levels[0])
    if first["why"]:
        words = f"{why(first)}; AUROC {range_of(levels)}."
        return replace(answer, word=UNDECIDED, sentence=words, n_groups=first["n_groups"])
    top = max(levels, key=lambda level: 1.0 if missing(level["hi"]) else level["hi"])
    if not missing(top["hi"]) and max(printed(top["hi"]), top["hi"]) < found["read_well_from"]:
        words = (
            f"AUROC {range_of(levels)}; even the highest upper limit, of {sheet.phrase(top['method'])} "
            f"({share(top['value'])} {_interval(top)}), is below {share(found['read_well_from'])}; "
            f"{counted(top['n'], top['n_groups'])}."
        )
        return with_numbers(replace(answer, word=NOBODY, sentence=words), top)
    if not entry["leader"]:
        return replace(answer, word=UNDECIDED, sentence="No method ranks the classes the right way round.")
    if not entry["leads"]:
        words = f"Only {sheet.phrase(entry['leader'])} ranks the classes the right way round: nothing to compare."
        return replace(answer, word=UNDECIDED, sentence=words)
    return _leading(sheet, entry, found, answer)


def _leading(sheet: Sheet, entry: dict[str, Any], found: Line, answer: Answer) -> Answer:
    """The leader against every other method: ahead of all, ahead with its kind, equivalent, or not told apart."""
    leader, leads, margin, well = entry["leader"], entry["leads"], found["margin"], found["read_well_from"]
    at = {level["method"]: level for level in entry["levels"]}
    words = {line["than"]: outcome(line, margin) for line in leads}
    kind = sheet.group(leader)
    tied = [line for line in leads if words[line["than"]] != AHEAD]
    others = [line for line in leads if sheet.group(line["than"]) != kind]
    nearest = min(leads, key=low)
    level = f"AUROC {share(at[leader]['value'])}"
    if not tied:
        of = f"the nearest of {len(leads)} other methods" if len(leads) > 1 else "the only other method"
        said = (
            f"{upper(sheet.phrase(leader))} is ahead: {level}, {written(nearest)} over {other_of(sheet, nearest)}, {of}"
        )
        return decided(answer, AHEAD, said, nearest)
    if others and all(words[line["than"]] == AHEAD for line in others):
        nearest = min(others, key=low)
        among = [at[leader], *(at[line["than"]] for line in tied)]
        said = (
            f"{upper(_KINDS.get(kind.key, f'readers of {kind.phrase}'))} are ahead: {sheet.phrase(leader)} "
            f"({share(at[leader]['value'])}) is {written(nearest)} over {other_of(sheet, nearest)}, the nearest method "
            f"that reads something else; {len(among)} of them cannot be told apart ({range_of(among)})"
        )
        return decided(answer, AHEAD, said, nearest)
    among = [at[leader], *(at[line["than"]] for line in tied)]
    if all(words[line["than"]] == EQUIVALENT for line in tied):
        widest = max(tied, key=lambda line: max(abs(line["lo"]), abs(line["hi"])))
        said = (
            f"{len(among)} of {len(leads) + 1} methods differ by less than {within(margin)} from the best, "
            f"{sheet.phrase(leader)} ({level}); the widest difference is {written(widest)}, to "
            f"{other_of(sheet, widest)}"
        )
        return decided(answer, EQUIVALENT, said, widest)
    if behind := next((line for line in tied if words[line["than"]] == BEHIND), None):
        said = f"The order depends on rows that some method left without a score: {minus(sheet, behind)}"
        return decided(answer, UNDECIDED, said, behind)
    unclear = [line for line in tied if words[line["than"]] == INCONCLUSIVE]
    if not unclear:
        return replace(answer, word=UNDECIDED, sentence=f"{why(tied[0])}; AUROC {range_of(among)}.")
    runner_up = min(unclear, key=lambda line: line["value"])
    more = []
    if len(among) > 2:
        said_of = f"{len(among)} of the {len(leads) + 1} methods may be the best"
        more.append(f"{said_of}, these two included (AUROC {range_of(among)}).")
    if at[leader]["value"] < well:
        more.append(f"Whether any of them reads it well is open: the interval of the first is {_interval(at[leader])}.")
    second = f"{other_of(sheet, runner_up)} ({share(at[runner_up['than']]['value'])})"
    said = f"{upper(sheet.phrase(leader))} ({level}) and {second} cannot be told apart: difference {written(runner_up)}"
    told = decided(answer, TIED, said, runner_up)
    return replace(told, detail=" ".join(filter(None, [*more, answer.detail])))


def _model(sheet: Sheet, entry: dict[str, Any], found: Line) -> Answer:
    """Answer whether a reader of the model is ahead of the text alone on one data set."""
    answer = Answer("model", entry["dataset"], place_of(sheet, entry["dataset"]), UNASKED, "", n=entry["n"])
    if not entry["model"]:
        words = "It takes a method that reads the model and one that reads the text alone, such as word_ngrams."
        return replace(answer, sentence=words)
    (line,) = entry["model"]
    told = outcome(line, found["margin"])
    if told == UNDECIDED:
        return replace(answer, word=UNDECIDED, sentence=f"{why(line, sheet)}.")
    start = {
        AHEAD: "The model tells more than the text alone",
        BEHIND: "The text alone tells more",
        EQUIVALENT: f"The text alone does as well, within {within(found['margin'])}",
        INCONCLUSIVE: "The two cannot be told apart",
    }[told]
    word = {AHEAD: YES, BEHIND: NO, EQUIVALENT: NO}.get(told, INCONCLUSIVE)
    return decided(answer, word, f"{start}: {minus(sheet, line)}", line)


def _dictionary(sheet: Sheet, entry: dict[str, Any], found: Line) -> Answer:
    """Answer whether readers of the dictionary are ahead of the dense state and of the frozen-encoder control."""
    answer = Answer("dictionary", entry["dataset"], place_of(sheet, entry["dataset"]), UNASKED, "", n=entry["n"])
    margin = found["margin"]
    dense, control = (_part(entry["dictionary"], kind, margin) for kind in ("dense", "control"))
    if dense is None:
        words = "It takes a dictionary at this site and the same reader of latents and of the dense state."
        return replace(answer, sentence=words)
    denied = {
        "dense": f"A lead of {within(margin)} or more of any reader of latents over the same reader of dense "
        "activations is ruled out",
        "control": f"A dictionary whose encoder was never trained does as well, within {within(margin)}",
    }
    for kind, part in (("dense", dense), ("control", control)):
        if part and part[0] == NO:
            return decided(answer, NO, f"{denied[kind]}; the largest is {minus(sheet, part[1])}", part[1])
    if dense[0] == YES and control and control[0] == YES:
        said = f"{upper(minus(sheet, dense[1]))}; and against the untrained encoder, {minus(sheet, control[1])}"
        return decided(answer, YES, said, dense[1])
    open_part = dense[1] if dense[0] != YES or control is None else control[1]
    if missing(open_part["lo"]):
        return replace(answer, word=UNDECIDED, sentence=f"{why(open_part, sheet)}.")
    said = upper(minus(sheet, open_part))
    if dense[0] == YES and control is None:
        beside = untrained(sheet.rows["method"].unique())
        known = "the rows of its untrained controls show what its width alone reads"
        unknown = "what an untrained encoder gives is unknown"
        said = f"{said}, but no frozen-encoder control was run: {known if beside else unknown}"
        return decided(answer, INCONCLUSIVE, said, open_part)
    return decided(answer, INCONCLUSIVE, f"Cannot be told: {minus(sheet, open_part)}", open_part)


def _part(lines: Sequence[Line], against: str, margin: float) -> tuple[str, Line] | None:
    """The word for all differences against one thing, with the difference that decides it; None without any."""
    asked = [line for line in lines if line["against"] == against]
    if not asked:
        return None
    if ahead := [line for line in asked if outcome(line, margin) == AHEAD]:
        return YES, max(ahead, key=low)
    unknown = [line for line in asked if outcome(line, margin) == UNDECIDED]
    unclear = [line for line in asked if line not in unknown and not not_ahead(line, margin)]
    if unclear:
        return INCONCLUSIVE, max(unclear, key=lambda line: line["value"])
    if unknown:  # one that has no interval may be ahead
        return INCONCLUSIVE, unknown[0]
    return NO, max(asked, key=lambda line: line["hi"])


def _where_decided(sheet: Sheet, found: Line, ask: Callable[..., Answer]) -> Answer:
    """A question on the data set of the recipe's contrasts, with the count of its answers on the others."""
    datasets = {entry["dataset"]: entry for entry in found["datasets"] if entry["both_labels"]}
    entry = datasets.get(sheet.decided_on) or next(iter(datasets.values()), None) or found["datasets"][0]
    answer = ask(sheet, entry, found)
    others = [ask(sheet, other, found) for name, other in datasets.items() if name != entry["dataset"]]
    if answer.word == UNASKED or not others:
        return answer
    listed = [_among(sheet, word, others) for word in (YES, NO, INCONCLUSIVE, UNDECIDED, UNASKED)]
    return replace(answer, detail=f"Elsewhere (exploratory): {'; '.join(filter(None, listed))}.")


def _among(sheet: Sheet, word: str, others: Sequence[Answer]) -> str:
    """A word with the places where it is the answer; the count of them where it says nothing, or they are many."""
    of = [answer for answer in others if answer.word == word]
    if word in (YES, NO) and 0 < len(of) <= NAMED:
        return f"{word} on " + ", ".join(
            f"{short_place(sheet, answer.dataset)} ({signed(answer.value)})" for answer in of
        )
    return f"{word} on {len(of)} of {len(others)} data sets" if of else ""


def _interval(level: Line) -> str:
    return span(level["lo"], level["hi"])


def _wrong_way(sheet: Sheet, entry: Line) -> str:
    named = ", ".join(sheet.phrase(method) for method in entry["inverted"])
    return f"Ranked backwards (AUROC below .5): {named}." if named else ""
