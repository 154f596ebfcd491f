"""The section on selective steering: which prompts may be steered, what certifies it, and what it gains."""

from collections.abc import Callable, Mapping
from typing import Any

from theodolite.core.control_documents import TrustFacts, facts_of
from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.report.blocks import Block, Line, Section, Table, Text, Value, absent, number
from theodolite.report.numbers import count, share, signed, span

TITLE = "Which prompts may be steered?"
KINDS = {
    "openings": "openings of the concept that no other figure uses",
    "beginnings": "beginnings of texts of other concepts",
}
BASELINES = {
    "accept_all": "steering every prompt",
    "margin": "the unsteered log-odds of the targets",
    "word_ngrams": "words of the prompt",
}
UNMATCHED = "not matched"
Phrase = Callable[[str], str]


def trust_section(run: Run, phrase: Phrase) -> Section:
    """Return the section, or one that says why the run has none; `phrase` writes the name of a method."""
    told = _facts(run)
    if told is None:
        return Section(
            TITLE, [absent("This run has no selective steering: `theodolite compare NAME --admit` adds it.")]
        )
    blocks: list[Block] = [Text(_answer(told, phrase), "lead"), Text(_protocol(told)), trust_table(run, phrase)]
    gains = _gains(told, phrase)
    blocks.append(gains or absent(_no_gains(told)))
    return Section(TITLE, blocks)


def trust_table(run: Run, phrase: Phrase) -> Table:
    """Return one line for each method: verdict, certificate, and its figures on test prompts."""
    told = _facts(run)
    if told is None:
        raise UserError("this run has no selective steering: `theodolite compare NAME --admit` adds it")
    head = (
        *(Value("Method"), Value("Verdict"), number("Right moves", "of all test prompts")),
        *(number("Accepted", "test prompts"), number("Right moves", "of the accepted")),
        *(number("Certified", "lower limit"), number("Left the support", "before / after")),
    )
    lines = tuple(_line(phrase(method), about) for method, about in told["methods"].items())
    caption = (
        f"Right move: further towards the concept than 95 % of random directions push the same prompt at "
        f"{told['nats']:g} nat; [95 % interval]. Certified: lower limit of the share of right moves among "
        "accepted certify prompts; of a choice by the state the threshold was found on them, and only the wanted share "
        "is guaranteed. Left the support: states farther from unsteered states than 99 % of these."
    )
    return Table(caption, head, lines)


def _facts(run: Run) -> Mapping[str, Any] | None:
    """Return what the stage found; None for a run that was not asked for it."""
    # a run that was asked and lacks the document is damaged, which the reading of it says
    asked = run.recipe.get("admit") is not None or run.read_json("trust") is not None
    return facts_of(run, "trust", TrustFacts) if asked else None


def _cells(told: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the methods that were asked for prompts: those whose strength was matched."""
    return {method: about for method, about in told["methods"].items() if about["verdict"] != UNMATCHED}


def _line(name: str, about: Mapping[str, Any]) -> Line:
    if about["verdict"] == UNMATCHED:
        return Line((Value(name), Value(about["verdict"], about["why"]), *(number("") for _ in range(5))))
    sure, left = about["certificate"], about["left_support"]
    shown = [number(share(x["value"]), span(x["lo"], x["hi"])) for x in (about["right_share"], about["coverage"])]
    accuracy = about["accuracy"]
    shown.append(number(share(accuracy["value"]), span(accuracy["lo"], accuracy["hi"])))
    certified = (
        number("none") if sure is None else number(share(sure["lower"]), f"{sure['right']} of {sure['n']} right")
    )
    gone = number("no state changes") if left is None else number(f"{left['before']} / {left['after']} of {left['n']}")
    return Line((Value(name), Value(about["verdict"], about["why"]), *shown, certified, gone))


def _answer(told: Mapping[str, Any], phrase: Phrase) -> str:
    """Return which methods have which verdict, in one sentence, with the certified share."""
    by_verdict: dict[str, list[str]] = {}
    for method, about in told["methods"].items():
        by_verdict.setdefault(about["verdict"], []).append(phrase(method))
    words = {
        "accept all": f"every prompt may be steered (at least {share(told['alpha'])} move the right way)",
        "selected": f"some prompts may be steered, chosen by their unsteered states (at least {share(told['alpha'])})",
        "nothing accepted": "no choice of prompts could be certified",
        "not steerable": "fewer than three prompts in ten move the right way",
        UNMATCHED: "no strength has the primary disturbance",
    }
    parts = [f"{', '.join(methods)}: {words[verdict]}" for verdict, methods in by_verdict.items()]
    return f"{'; '.join(parts)}." if parts else "No method could be asked."


def _protocol(told: Mapping[str, Any]) -> str:
    n = sum(about["certificate"] is not None for about in _cells(told).values())
    several = f" Each of the {n} certificates fails with at most this probability by itself." if n > 1 else ""
    return (
        f"Prompts: {count(told['prompts'])} {KINDS[told['kind']]}, in four parts: to learn on, to choose on, to "
        f"certify on and to test on. Pushes are towards the concept at {told['nats']:g} nat; {count(told['draws'])} "
        "random directions give each prompt its own band. Among accepted prompts at least "
        f"{share(told['alpha'])} move the right way, for prompts drawn like these, except with probability "
        f"{told['delta']:g}.{several}"
    )


def _gains(told: Mapping[str, Any], phrase: Phrase) -> Table | None:
    """Return the gains of choosing by the state over each baseline at equal coverage; None where there is none."""
    lines = [
        Line(
            (
                *(Value(phrase(method)), Value(BASELINES[name])),
                number(signed(gain["value"]), span(gain["lo"], gain["hi"], sign=True)),
                number(count(gain["n"])),
            )
        )
        for method, about in _cells(told).items()
        for name, gain in about["contrasts"].items()
    ]
    head = (Value("Method"), Value("Less"), number("Share of right moves"), number("n", "test prompts"))
    caption = (
        "Share of right moves among accepted prompts, less that among as many prompts chosen otherwise. Each "
        "interval covers by itself, not all of them together."
    )
    return Table(caption, head, tuple(lines)) if lines else None


def _no_gains(told: Mapping[str, Any]) -> str:
    cells = _cells(told).values()
    if any(about["contrasted"] for about in cells):
        return "No gain over a baseline: no choice by the state was certified where it could be compared."
    shares = [share(about["development_share"]) for about in cells]
    return (
        "No gain over a baseline is asked for: on development prompts the share of right moves is "
        f"{', '.join(shares) or 'unknown'}, and gains are for shares from .3 to .8."
    )
