"""The page of a comparison of control methods: answers, effects at equal disturbance, contrasts, damage."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from theodolite.core.control_documents import SteeringFacts, facts_of
from theodolite.core.run import Run
from theodolite.report.blocks import Block, Facts, Figure, Line, Points, Section, Table, Text, Value, absent, number
from theodolite.report.chart import Chart
from theodolite.report.dose_chart import dose_chart
from theodolite.report.numbers import count, p_value, share, signed, span
from theodolite.report.pages import Page
from theodolite.report.steer_answer import FROZEN, MEANS, SET, Moves, dictionary_answer
from theodolite.report.steer_trust_section import trust_section, trust_table

METRICS = {
    "effect_sentence": "written text, sentence classifier",
    "effect_ngrams": "written text, n-gram classifier",
    "effect_targets": "targets",
    "effect_unseen": "targets whose words no training text has",
}
SAMPLED = {
    "effect_sentence_sampled": "samples, sentence classifier",
    "effect_ngrams_sampled": "samples, n-gram classifier",
    "effect_choices": "questions in both orders",
}
NULLS = {
    "other_concepts": "directions of other concepts",
    "neutral_halves": "halves of neutral text",
    "stratified_shuffles": "labels shuffled within the classes",
}
OVERDRIVE = 1.0  # nats from which on effects of the default model fall again
PRIMARY = ("effect_sentence", "effect_ngrams")
NAMES = {
    "difference_in_means": "difference in means",
    "latent": "one latent",
    "latent_set": "latent set",
    "frozen_encoder_latent_set": "latent set of the frozen-encoder control",
    "logit_bias": "vocabulary logit bias",
    "prompt": "prompt with a dial",
    "contrast_vector": "contrast vector",
    "reft": "rank-1 ReFT",
}
WORDS = {
    "better": "is better than",
    "worse": "is worse than",
    "equivalent": "is equivalent (within {margin} nats) to",
    "non-inferior": "is worse by less than {margin} nats, if at all, than",
    "undecided": "is not told apart from",
}


NEEDED = (SET, MEANS), (SET, FROZEN)


def phrase(method: str) -> str:
    """Write a method's name in words.

    >>> phrase("latent_set"), phrase("lat")
    ('latent set', 'lat')
    """
    return NAMES.get(method, method.replace("_", " "))


def usable(facts: Mapping[str, Any]) -> list[str]:
    """Return the measures on written text whose classifier tells held-out texts of the concept."""
    return [f"effect_{one['name']}" for one in facts["classifiers"] if one["usable"]]


def _answers(run: Run, facts: Mapping[str, Any]) -> Section:
    """The fixed contrasts on written text in words, and whether the dictionary was needed."""
    word, why = _dictionary(run, facts)
    about = run.facts.get("model") or {}
    subject = f"{about.get('name')} ({about.get('quantisation') or 'weights as published'})"
    margin = f"{facts['margin']:g}"
    lines = [
        f"On {METRICS[one['metric']]}, {phrase(one['method'])} "
        f"{WORDS[one['verdict']].format(margin=margin)} {phrase(one['than'])}: "
        f"{signed(one['value'])} {span(one['lo'], one['hi'], sign=True)} nats of log-odds, p {p_value(one['p_holm'])} "
        f"(Holm), n = {count(one['n'])} openings."
        for one in facts["contrasts"]
        if one["metric"] in usable(facts)
    ]
    blocks: list[Block] = [
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


def _dictionary(run: Run, facts: Mapping[str, Any]) -> tuple[str, str]:
    """Answer whether the dictionary was needed, from the contrasts and the effects at the primary disturbance."""
    rows = run.rows
    at = rows[(rows["task"] == "steer") & (rows["nats"] == facts["primary"]) & _at_first(rows, facts)]
    effects = {(one["method"], one["split"], one["metric"]): one for one in at.to_dict("records")}
    bands = {one["metric"]: one["width"] for one in facts["bands"] if one["nats"] == facts["primary"]}
    moves = Moves(list(facts["methods"]), effects, bands)
    return dictionary_answer(facts["contrasts"], usable(facts), facts["margin"], moves)


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


def effects(run: Run) -> Table:
    """Return the effects of all methods at the primary disturbance, over both signs, and the random band."""
    facts = facts_of(run, "steering", SteeringFacts)
    rows = run.rows
    at = rows[(rows["task"] == "steer") & (rows["nats"] == facts["primary"]) & _at_first(rows, facts)]
    head = [
        Value("Method"),
        *(number(f"Effect on {name}") for name in METRICS.values()),
        number("Wrong way", "targets"),
    ]
    lines = []
    for method in facts["methods"]:
        mine = at[at["method"] == method]
        cells = [_cell(mine[(mine["split"] == "both") & (mine["metric"] == metric)]) for metric in METRICS]
        wrong = mine[mine["metric"] == "effect_targets:wrong_way"]["value"]
        cells.append(number(share(wrong.max()) if len(wrong) else ""))
        lines.append(Line((Value(phrase(method)), *cells)))
    bands = {one["metric"]: one for one in facts["bands"] if one["nats"] == facts["primary"]}
    widths = [bands.get(metric) for metric in METRICS]
    cells = [number(f"within {share(b['width'])}", f"{b['n']} draws") if b else number("") for b in widths]
    lines.append(Line((Value("random directions", "95 % of them"), *cells, number(""))))
    found = {(one["null"], one["metric"]): one for one in facts["nulls"]}
    for null in dict.fromkeys(one["null"] for one in facts["nulls"]):
        cells = [_null(found.get((null, metric))) for metric in METRICS]
        lines.append(Line((Value(NULLS[null], "95 % of them"), *cells, number(""))))
    caption = (
        "Half the distance between pushes towards and away from the concept, in nats of log-odds, each at a mean KL "
        f"of {facts['primary']:g} nat; [95 % interval]. The other rows are of pushes of one sign, whose opposites are "
        "draws too. Wrong way: share of openings moved against the push, worse sign."
    )
    return Table(caption, tuple(head), tuple(lines))


def _cell(rows: pd.DataFrame, without: str = "not matched") -> Value:
    if rows.empty:
        return number(without)
    one = rows.iloc[0]
    return number(signed(one["value"]), span(one["lo"], one["hi"], sign=True))


def _null(band: Mapping[str, Any] | None) -> Value:
    if band is None:
        return number("")
    return number(f"within {share(band['width'])}", f"{band['n']} draws, most {signed(band['most'])}")


def points(run: Run) -> Table | None:
    """Return what has no matched disturbance, such as the whole instruction; None where nothing has."""
    rows = run.rows
    at = rows[(rows["task"] == "steer") & rows["nats"].isna()]
    if at.empty:
        return None
    head = (
        Value("Method"),
        number("Sign"),
        number("Nats"),
        *(number(f"Effect on {name}") for name in METRICS.values()),
    )
    lines = []
    for (method, split), mine in at.groupby(["method", "split"], sort=False):
        (kl,) = mine[mine["metric"] == "kl"]["value"]
        cells = [_cell(mine[mine["metric"] == metric], "") for metric in METRICS]
        about = Value(phrase(method), "the whole instruction" if method == "prompt" else "without a dial")
        lines.append(Line((about, number(split), number(f"{kl:.3g}"), *cells)))
    caption = "Points at a disturbance of their own, which no strength sets to another: compare them with no row above."
    return Table(caption, head, tuple(lines))


def levels(run: Run) -> Table:
    """Return effects by level of disturbance on written text, greedy and in samples, and on questions."""
    rows, facts = run.rows, facts_of(run, "steering", SteeringFacts)
    at = rows[(rows["task"] == "steer") & (rows["split"] == "both") & _at_first(rows, facts)]
    named = {name: text for name, text in (METRICS | SAMPLED).items() if (at["metric"] == name).any()}
    head = (Value("Method"), number("Nats"), *(number(f"Effect on {text}") for text in named.values()))
    lines = []
    for method in facts["methods"]:
        for nats in facts["nats"]:
            mine = at[(at["method"] == method) & (at["nats"] == nats)]
            cells = [_cell(mine[mine["metric"] == name]) for name in named]
            level = number(f"{nats:g}", "overdrive" if nats >= OVERDRIVE else "")
            lines.append(Line((Value(phrase(method)), level, *cells)))
    caption = "Effects over both signs at each level of disturbance. Overdrive: effects are expected to fall again."
    return Table(caption, head, tuple(lines))


def depths(run: Run) -> Table:
    """Return the effects at the primary disturbance by site; a contrast is decided at the first one alone."""
    rows, facts = run.rows, facts_of(run, "steering", SteeringFacts)
    at = rows[(rows["task"] == "steer") & (rows["split"] == "both") & (rows["nats"] == facts["primary"])]
    head = (Value("Method"), Value("Site"), *(number(f"Effect on {name}") for name in METRICS.values()))
    lines = [
        Line((Value(phrase(method)), Value(site or "none"), *(_cell(mine[mine["metric"] == m]) for m in METRICS)))
        for (method, site), mine in at.groupby(["method", at["site"].fillna("")], sort=False)
    ]
    caption = (
        f"Effects over both signs at {facts['primary']:g} nat by depth. Contrasts and all other tables are of "
        f"{facts['sites'][0]}, fixed before the run: at later layers less of the model is left to answer a push."
    )
    return Table(caption, head, tuple(lines))


def _at_first(rows: pd.DataFrame, facts: Mapping[str, Any]) -> Any:
    """Mask of the rows whose method acts at the first site, or at no depth."""
    first = {method: about["site"] for method, about in facts["methods"].items()}
    return rows["site"].fillna("") == rows["method"].map(first).fillna("")


def contrasts(run: Run) -> Table:
    """Return all contrasts fixed before the run, by metric."""
    facts = facts_of(run, "steering", SteeringFacts)
    head = (Value("Difference"), Value("On"), number("Nats"), number("p", "Holm"), Value("Verdict"), number("n"))
    lines = tuple(
        Line(
            (
                Value(phrase(one["method"]), f"minus {phrase(one['than'])}"),
                Value(METRICS[one["metric"]]),
                number(signed(one["value"]), span(one["lo"], one["hi"], sign=True)),
                number(p_value(one["p_holm"])),
                _verdict(one, facts),
                number(count(one["n"])),
            )
        )
        for one in facts["contrasts"]
    )
    caption = (
        f"Contrasts fixed before the run, at {facts['primary']:g} nat; equivalent: within {facts['margin']:g} nats. "
        "Written text is the primary measure; p is corrected over the primary contrasts of one measure, and over its "
        "secondary ones."
    )
    return Table(caption, head, lines)


def _verdict(one: Mapping[str, Any], facts: Mapping[str, Any]) -> Value:
    """Verdict of a contrast; none on written text whose classifier tells nothing: there all methods look alike."""
    if one["metric"] in PRIMARY and one["metric"] not in usable(facts):
        return Value("none", "its classifier does not tell held-out texts")
    return Value(one["verdict"], "", f"verdict {one['verdict']}")


def strengths(run: Run) -> Table:
    """Return what each method needs for the disturbances, whether its doses are control, and when it does damage."""
    facts = facts_of(run, "steering", SteeringFacts)
    head = (
        *(Value("Method"), Value("Site"), number("Strength", "+ / \N{MINUS SIGN}"), number("Not matched", "cells")),
        *(
            Value("Dose"),
            number("Damage of 5 %", "+ / \N{MINUS SIGN}"),
            number("On other concepts", "+ / \N{MINUS SIGN}"),
        ),
    )
    lines = []
    for method, about in facts["methods"].items():
        primary = [one for one in about["strengths"] if one["nats"] == facts["primary"]]
        strength = " / ".join(f"{one['strength']:.3g}" if not one["reason"] else one["reason"] for one in primary)
        unmatched = sum(bool(one["reason"]) for one in about["strengths"])
        judged = about["dose"]["effect_targets"]
        lines.append(
            Line(
                (
                    *(Value(phrase(method)), Value(about["site"] or "none"), number(strength)),
                    number(f"{unmatched} of {len(about['strengths'])}"),
                    Value(judged["word"] if judged else "not asked", judged["why"] if judged else ""),
                    number(" / ".join(_crossing(about["damage"][split]) for split in "+-")),
                    _elsewhere(about["selectivity"]),
                )
            )
        )
    caption = (
        f"Strengths at {facts['primary']:g} nat in each method's own units. Dose: control if both signs move the "
        "targets' log-odds in opposite directions, monotonously, and farther than random directions do. Damage: size "
        "of strength at which the loss on unrelated text rises by 5 %. On other concepts: mean size of the effects of "
        "the same edit on the targets of the other packaged concepts, and the one that moves most, in nats of each "
        "one's own targets. These are words that move by other amounts: compare methods by it, not with the effect on "
        "the concept, since what random directions do to these targets is not measured."
    )
    return Table(caption, head, tuple(lines))


def _crossing(at: Mapping[str, Any] | None) -> str:
    if at is None:
        return "none"
    return f"{at['value']:.3g}" if at["value"] is not None else f"> {at['last']:.3g}"


def _elsewhere(found: Mapping[str, Any]) -> Value:
    """Mean size of the effects on other concepts by sign, and below it the concept that moves most."""
    known = {split: one for split, one in found.items() if one is not None and one.get("size") is not None}
    sizes = [share(known[split]["size"]["value"]) if split in known else "none" for split in "+-"]
    most = [f"{known[s]['most_of']} {signed(known[s]['most'])}" for s in "+-" if s in known]
    return number(" / ".join(sizes), f"most {' / '.join(most)}" if most else "")


def curves(run: Run) -> Chart | None:
    """Return the figure of effects on the targets against the disturbance, both signs; None without targets."""
    rows = run.rows
    wanted = (rows["metric"] == "effect_targets") & rows["split"].isin(["+", "-"]) & rows["nats"].notna()
    mine = rows[(rows["task"] == "steer") & wanted & _at_first(rows, facts_of(run, "steering", SteeringFacts))]
    bands = [one for one in facts_of(run, "steering", SteeringFacts)["bands"] if one["metric"] == "effect_targets"]
    return None if mine.empty else dose_chart(mine, bands, phrase)


def _sections(run: Run, show_text: bool) -> list[Section]:
    facts = facts_of(run, "steering", SteeringFacts)
    drawn = curves(run)
    caption = (
        "Effect on the targets' log-odds against the disturbance, for pushes towards the concept and away from it."
    )
    many = "The curve of seven strengths is in the rows." if run.recipe["curve"] else "The levels are the whole curve."
    figure: list[Block] = [Figure(drawn, f"{caption} Grey: 95 % of random directions. {many}")] if drawn else []
    apart = points(run)
    deep = [Section("Depths", [depths(run)])] if len(facts["sites"]) > 1 else []
    wide = [Section("All levels of disturbance", [levels(run)])] if run.recipe["full"] else []
    notes = [Line((Value(n["kind"]), number(count(n["count"])), Value(n["text"]))) for n in run.notes]
    warnings: Block = (
        Table("Left out, and how often.", (Value("Kind"), number("Count"), Value("What")), tuple(notes))
        if notes
        else Text("Nothing was left out.")
    )
    return [
        _answers(run, facts),
        Section("Effects at equal disturbance", [effects(run), *([apart] if apart else []), *figure]),
        Section("Contrasts fixed before the run", [contrasts(run)]),
        *wide,
        *deep,
        Section("Strengths, doses and damage", [strengths(run)]),
        trust_section(run, phrase),
        Section("Classifiers of written text", [_classifiers(facts)]),
        Section("Counted warnings", [warnings]),
        Section("Provenance", [_provenance(run)]),
    ]


def _classifiers(facts: Mapping[str, Any]) -> Table:
    lines = tuple(
        Line(
            (
                *(Value(one["name"]), Value(one["method"])),
                number(share(one["auroc"]["value"]), span(one["auroc"]["lo"], one["auroc"]["hi"])),
                number(share(one["ece"]["value"]), span(one["ece"]["lo"], one["ece"]["hi"])),
                number(count(one["auroc"]["n"]), f"in {count(one['auroc']['n_groups'])} groups"),
            )
        )
        for one in facts["classifiers"]
    )
    head = (Value("Name"), Value("Method"), number("AUROC"), number("Calibration error"), number("n"))
    return Table("Classifiers that score written text, out of fold on texts that no direction has seen.", head, lines)


def _provenance(run: Run) -> Facts:
    manifest, model = run.manifest, run.facts.get("model") or {}
    machine = manifest["machine"]
    return Facts(
        (
            ("Run", manifest["id"]),
            ("Recipe digest", manifest["digest"]),
            ("Model hash", str(model.get("hash", "not recorded"))),
            ("Started, finished", f"{manifest['started']}, {manifest['finished']}"),
            ("Machine", f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"),
        )
    )


def _sentence(run: Run) -> str:
    facts = facts_of(run, "steering", SteeringFacts)
    word, why = _dictionary(run, facts)
    return f"{run.recipe['title']} Was the dictionary needed? {word}: {why}."


PAGE = Page(
    _sections,
    lambda run: str(run.recipe["title"]),
    _sentence,
    lambda run: [effects(run), contrasts(run)],
    {"effects": effects, "contrasts": contrasts, "strengths": strengths, "trust": lambda run: trust_table(run, phrase)},
    {"curves": curves},
)
