"""The claims of selective prediction as one plain answer."""

from theodolite.core.claim import FAILS, HOLDS, NOTHING
from theodolite.core.run import IN_DISTRIBUTION
from theodolite.report.answer_words import INCONCLUSIVE, NO, UNASKED, YES, Answer
from theodolite.report.numbers import count
from theodolite.report.selective_tables import CELLS, Figures, claim_figure, figures_of, with_interval
from theodolite.report.sheet import Sheet


def selection(sheet: Sheet) -> Answer:
    """Return the answer over all shifts; on the test rows where there is no shift.

    Its word is that of the claims, whose tests are corrected over reader and shift. The numbers are those of the claim
    with the lowest accuracy among the ones that decide the word.
    """
    found = sheet.run.read_json("selection")
    if not found or not found["claims"]:
        why = (
            "Not tested in this run: `theodolite compare NAME --admit` tests it."
            if not found
            else "Its readers made no claim in this run."
        )
        return Answer("selection", "", "all shifts", UNASKED, why)
    shifted = [claim for claim in found["claims"] if claim["dataset"] != IN_DISTRIBUTION]
    claims = shifted or found["claims"]
    words = [claim["word"] for claim in claims]
    if set(words) == {HOLDS}:
        word = YES
    elif FAILS in words or set(words) == {NOTHING}:
        word = NO
    else:
        word = INCONCLUSIVE
    kinds = {YES: {HOLDS}, NO: {FAILS}, INCONCLUSIVE: set(words) - {HOLDS, NOTHING}}[word]
    deciding = [claim for claim in claims if claim["word"] in kinds]
    place = "all shifts" if shifted else "test rows"
    counts = ", ".join(f"{kind} in {words.count(kind)}" for kind in dict.fromkeys(words))
    pairs = f"{len(words)} pair{'s' * (len(words) > 1)} of reader and {'shift' if shifted else 'test rows'}"
    said = f"Over {pairs}, an accuracy of {found['level']:g} of the accepted predictions {counts}"
    if not deciding:
        return Answer("selection", "", place, word, f"{said}.")
    return _worst(sheet, deciding, figures_of(sheet.run.rows), Answer("selection", "", place, word, said))


def _worst(sheet: Sheet, claims: list[dict], figures: Figures, answer: Answer) -> Answer:
    """The answer with the claim of the lowest accuracy, in the label or prediction where it is lowest."""
    claim = min(claims, key=lambda one: one["accuracy"])
    figure = claim_figure(figures, claim, f"accuracy_{claim['worst']}")
    said = (
        f"{answer.sentence}; the lowest is {with_interval(figure)} {CELLS[claim['worst']]}, "
        f"{sheet.phrase(claim['method'])} on {sheet.column(claim['dataset']).title}; n = {count(claim['n'])} accepted."
    )
    numbers = {name: figure[name] for name in ("value", "lo", "hi", "n_groups")}
    return Answer(
        "selection", claim["dataset"], answer.place, answer.word, said, claim["method"], n=claim["n"], **numbers
    )
