"""Words about claims of the debate: a line of the table for each, and one claim with everything behind its verdict.

What is written comes from the JSON of `theodolite.claims()`, which holds numbers and codes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from theodolite.core.claim_file import FALSE, NOT_RUN, POOLING, POWER, QUANTISATION, REGIME, TRUE, UNDECIDED
from theodolite.report.names import words
from theodolite.report.numbers import count, difference, share, size, span

TONES = {
    TRUE: "good",
    FALSE: "bad",
    REGIME: "even",
    POOLING: "even",
    QUANTISATION: "even",
    POWER: "open",
    UNDECIDED: "open",
    NOT_RUN: "none",
}
MEANINGS = {
    TRUE: "every statement of the rule is true",
    FALSE: "a statement of the rule is false, and in no regime are all true",
    REGIME: "true in some regimes of the rule, false in others",
    POOLING: "true with the tokens of a text pooled in one way, false in another",
    QUANTISATION: "true with the model in one precision, false in another",
    POWER: "open, and the intervals are too wide for the smallest effect that matters",
    UNDECIDED: "open, though the intervals are narrow enough for the smallest effect that matters",
    NOT_RUN: "no finished Run of this recipe was found",
}
_WHY = {
    "no row": "the Run has no such figure",
    "several rows": "the Run has several such figures",
    "no interval": "no interval",
    "few groups": "too few groups to exclude a rare failure",
    "ceiling": "so near to 1 that the margin is wide beside the error that is left",
}


def figures(claim: Mapping[str, Any]) -> list[str]:
    """Write the figure that decides each regime, a line each."""
    return [f"{regime['name']} {_figure(regime['tests'][regime['deciding']])}" for regime in claim["regimes"]]


def model(claim: Mapping[str, Any]) -> str:
    """Write the model of the Run with its size and quantisation; "" where there is no Run.

    >>> about = {"name": "tiny", "parameters": 2_000_000, "quantisation": "Q4_1", "dtype": "float32"}
    >>> model({"run": {"model": about}})
    'tiny (2M, Q4_1)'
    """
    return _model(claim["run"]) if claim["run"] else ""


def behind(claim: Mapping[str, Any]) -> Iterator[str]:
    """Write everything behind one verdict: who says so, the rule with its figures, power, and the Run."""
    reference = f" ({claim['reference']})" if claim["reference"] else ""
    yield f"Said by {claim['source']}{reference}."
    seen = "before we had seen any Run of this recipe" if claim["fixed"] == "before" else "after earlier Runs of it"
    rule = claim["rule"]
    yield f"Rule, written {seen}; it must be true in {rule['over']} of:"
    for regime in claim["regimes"]:
        yield f"- {regime['name']}: {regime['answer']}"
        yield from (f"    {test['answer']}: {statement(test)}: {_figure(test)}" for test in regime["tests"])
    for name, statements in () if claim["regimes"] else rule["regimes"].items():
        yield f"- {name}: {'; '.join(map(statement, statements))}"
    power = claim["power"]
    yield f"Smallest effect that matters: {_plain(power['effect'])}. {power['reason'].strip()}"
    for pooling, answers in claim["poolings"].items():
        yield f"With {pooling} pooling: {_answers(answers)}."
    if other := claim["other_precision"]:
        yield f"With {_model(other)}: {_answers(other['answers'])} (Run {other['id']})."
    if claim["run"]:
        yield f"Run {claim['run']['id']}, {model(claim)}, finished {claim['run']['finished']}."


def statement(test: Mapping[str, Any]) -> str:
    """Write one statement of a rule.

    >>> statement({"metric": "auroc", "method": "lat", "versus": "", "dataset": "d", "lies": "below", "bound": 0.9,
    ...     "margin": 0.0})
    'auroc of LAT on d lies below .9'
    """
    method = f" of {_method(test['method'])}" if test["method"] else ""
    against = f" minus {_method(test['versus'])}" if test["versus"] else ""
    settings = [f"{name} {test[name]}" for name in ("nats", "split") if name in test]
    settings += [f"{name} {value}" for name, value in test.get("params", {}).items()]
    with_ = f" ({', '.join(settings)})" if settings else ""
    bound, margin = _plain(test["bound"]), _plain(test["margin"])
    where = f"within {margin} of {bound}" if test["lies"] == "within" else f"{test['lies']} {bound}"
    least = f" (a distance under {margin} counts as none)" if test["lies"] != "within" and test["margin"] else ""
    return f"{test['metric']}{method}{against}{with_} on {test['dataset']} lies {where}{least}"


def skipped(folders: Sequence[Mapping[str, str]]) -> list[str]:
    """Write how many Run folders were skipped, and why each was."""
    if not folders:
        return []
    one = len(folders) == 1
    head = f"{count(len(folders))} Run folder{'' if one else 's'} skipped:"
    return [head, *(f"- {each['folder']}: {each['reason']}" for each in folders)]


def _figure(test: Mapping[str, Any]) -> str:
    if test["why"] in ("no row", "several rows"):
        return _WHY[test["why"]]
    value = difference(test) if test["versus"] else f"{share(test['value'])} {span(test['lo'], test['hi'])}".strip()
    why = f"; {_WHY[test['why']]}" if test["why"] else ""
    return f"{value}, n = {count(test['n'])}{why}"


def _method(name: str) -> str:
    """A method in words, with what it reads."""
    view = name.partition("@")[2].partition(" ")[0]
    return words(name) + (f" on {view}" if view else "")


def _plain(number: float) -> str:
    """A number of a rule as it was written, without a leading zero."""
    return f"{number:g}".replace("0.", ".", 1) if abs(number) < 1 and number else f"{number:g}"


def _model(run: Mapping[str, Any]) -> str:
    about = run["model"]
    precision = about["quantisation"] or about["dtype"]
    parts = [str(part) for part in (about["parameters"] and size(about["parameters"]), precision) if part]
    return f"{about['name'] or 'no model'}" + (f" ({', '.join(parts)})" if parts else "")


def _answers(answers: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {answer}" for name, answer in answers.items())
