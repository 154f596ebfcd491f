"""The section that answers first: which method steers, and whether the dictionary was needed."""

from collections.abc import Mapping
from typing import Any

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.run import Run
from theodolite.report.blocks import Block, Points, Section, Text, absent
from theodolite.report.numbers import count, p_value, signed, span
from theodolite.report.steer_answer import FROZEN, MEANS, SET, PrimaryEffects, dictionary_answer
from theodolite.report.steer_words import METRICS, PRIMARY, at_first, phrase, usable

WORDS = {
    "better": "is better than",
    "worse": "is worse than",
    "equivalent": "is equivalent (within {margin} nats) to",
    "non-inferior": "is worse by less than {margin} nats, if at all, than",
    "undecided": "is not told apart from",
}
NEEDED = (SET, MEANS), (SET, FROZEN)


def answer_section(run: Run) -> Section:
    """Return the section: whether the dictionary was needed, and the fixed contrasts on written text in words."""
    facts = facts_of(run, "steering", SteeringFacts)
    word, why = dictionary(run, facts)
    about = run.facts.get("model") or {}
    subject = f"{about.get('name')} ({about.get('quantisation') or 'weights as published'})"
    margin = f"{facts['margin']:g}"
    lines = [
        f"On {METRICS[one['metric']]}, {phrase(one['method'])} "
        f"{WORDS[one['verdict']].format(margin=margin)} {phrase(one['than'])}: "
        f"{signed(one['value'])} {span(one['lo'], one['hi'], sign=True)} nats of log-odds, p {p_value(one['p_holm'])} "
        f"(Holm), n = {count(one['n'])} openings."
        for one in facts["contrasts"]
        if one["metric"] in usable(facts) and one.get("family", "primary") == "primary"
    ]
    blocks: list[Block] = [Text(words, "lead") for words in leaders(facts)]
    blocks += [
        Text(
            f"Was the dictionary needed? {word.upper()}: {why}. Model: {subject}. {_scope(facts, word)}".strip(),
            "lead",
        ),
        Points(tuple(lines)) if lines else absent("No contrast could be made at the primary disturbance."),
    ]
    blocks += [
        Text(f"The {one['name']} classifier does not tell held-out texts: its effects decide nothing.", "warning")
        for one in facts["classifiers"]
        if not one["usable"]
    ]
    if run.recipe.get("quick"):
        blocks.insert(0, Text("Quick run: to look at, not to report.", "warning"))
    return Section("Which method steers?", blocks)


def leaders(facts: Mapping[str, Any]) -> list[str]:
    """Return for each measure on written text that decides which method moves it furthest, and which may as well."""
    band = {one["metric"]: one for one in facts["bands"] if one["nats"] == facts["primary"]}
    return [
        _leader(one, facts["primary"], band.get(one["metric"]))
        for one in facts.get("furthest", [])  # earlier versions had none
        if one["metric"] in usable(facts)
    ]


def _leader(one: Mapping[str, Any], primary: float, band: Mapping[str, Any] | None) -> str:
    words = (
        f"Furthest at {primary:g} nat on {METRICS[one['metric']]}: {phrase(one['method'])}, {signed(one['value'])} "
        f"{span(one['lo'], one['hi'], sign=True)} nats of log-odds, n = {count(one['n'])} openings."
    )
    if band is not None and abs(one["value"]) <= band["width"]:
        return f"{words} It is no further than 95 % of random directions."
    if one["methods"] == 1:
        return words
    alike = ", ".join(phrase(method) for method in one["alike"]) or f"none of the other {one['methods'] - 1} methods"
    return f"{words} May be as far: {alike}."


def dictionary(run: Run, facts: Mapping[str, Any]) -> tuple[str, str]:
    """Answer whether the dictionary was needed, from the contrasts and the effects at the primary disturbance."""
    rows = run.rows
    at = rows[(rows["task"] == "steer") & (rows["nats"] == facts["primary"]) & at_first(rows, facts)]
    effects = {(one["method"], one["split"], one["metric"]): one for one in at.to_dict("records")}
    bands = {one["metric"]: one["width"] for one in facts["bands"] if one["nats"] == facts["primary"]}
    found = PrimaryEffects(list(facts["methods"]), effects, bands)
    return dictionary_answer(facts["contrasts"], usable(facts), facts["margin"], found)


def _scope(facts: Mapping[str, Any], word: str) -> str:
    """Scope of an answer in words, and whether the other measure contradicts it."""
    if "latent_set" not in facts["methods"]:
        return ""
    words = [f"The answer is about this dictionary at {facts['primary']:g} nat."]
    if len(facts["methods"]["latent_set"]["spent"]) == 1:
        words.append("One training set was fitted: intervals are over openings, and do not cover other training texts.")
    against = {"yes": "worse", "no": "better"}.get(word)
    words += [
        f"On {METRICS[one['metric']]} the {phrase(one['method'])} is {against} than the {phrase(one['than'])}."
        for one in facts["contrasts"]
        if (one["method"], one["than"]) in NEEDED and one["metric"] not in PRIMARY and one["verdict"] == against
    ]
    return " ".join(words)
