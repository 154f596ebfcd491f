"""The verdict in words and the dictionary's card, as the report shows them: artefacts/verdict.json and card.json."""

from collections.abc import Sequence
from typing import Any

from theodolite.comparison import tables
from theodolite.comparison.evaluate import Contrasted, Evaluation
from theodolite.comparison.explained import Fvu
from theodolite.core.recipe import Contrast, Recipe
from theodolite.core.run import DOMAINS, IN_DISTRIBUTION, LEFT_OUT, OUTSIDE_DOMAIN, Run
from theodolite.core.stats import FEWEST_SEEDS
from theodolite.models.model import Model
from theodolite.report.numbers import share, signed, span, within
from theodolite.study.subjects import SiteDictionary


def write(
    matched: Evaluation, recipe: Recipe, read: str, dictionaries: Sequence[SiteDictionary], fvu: Fvu, run: Run
) -> None:
    """Write verdict.json, and card.json where the matched site has a dictionary; `read` says in words what was read."""
    about = [] if run.facts.get("from_arrays") else _dictionary_notes(dictionaries, fvu)
    notes = [*about, *(f"{a} against {b}: not run" for a, b in matched.missing)]
    notes += [*_inverted_notes(matched), *_margin_notes(matched)]
    decided = recipe.primary or IN_DISTRIBUTION
    fixed = [*recipe.contrasts, *tables.EXPLORATORY]  # in the recipe or in our code: not one was picked by a result
    asked = [c for c in matched.contrasts if Contrast(method=c.method, than=c.versus) in fixed]
    verdict = {
        "sentence": _sentence(matched, recipe, read),
        "contrasts": [_contrast(c) for c in matched.contrasts if c.primary],
        "exploratory": [
            _contrast(c) for c in asked if not c.primary and (c.dataset == decided or c.dataset.startswith(LEFT_OUT))
        ],
        "everywhere": [_contrast(c) for c in asked if c.metric == "auroc"],
        "notes": notes,
    }
    run.write_json("verdict", verdict)
    if dictionaries and dictionaries[0].dictionary.info.get("card"):
        run.write_json("card", card(dictionaries[0]))


def card(site_dictionary: SiteDictionary) -> dict[str, Any]:
    """The dictionary's own card in the report's words."""
    info = site_dictionary.dictionary.info
    quality = info["card"]
    # running text, or prompts where a corpus has no other
    domain = quality.get("judged_on", DOMAINS["documents"])
    domains = {short: quality["domains"][name] for short, name in DOMAINS.items() if name in quality["domains"]}
    return {
        "site": site_dictionary.site,
        "width": site_dictionary.dictionary.width,
        "k": info["k"],
        "tokens": info["training"]["tokens"],
        "seconds": info["training"]["seconds"],
        "l0": quality["domains"][domain]["l0"],
        "dead_share": quality["dead"]["share"],
        "ce_recovered": (quality["cross_entropy"] or {}).get("recovered"),
        "undertrained": quality["undertrained"],
        "learning_curve": [[p["tokens"], p[domain]] for p in quality["curve"]],
        "fvu": {short: (d["fvu"] or {"value": None}) | {"n": d["n"]} for short, d in domains.items()},
    }


def phrase(recipe: Recipe, model: Model, dictionaries: Sequence[SiteDictionary]) -> str:
    """Site, model and dictionary, as every sentence about the run must name them."""
    size = f"{model.parameters / 1e6:.0f}M" + (f", {model.quantisation}" if model.quantisation else "")
    return f"{recipe.site} of {model.name} ({size}; {_dictionary(dictionaries)})"


def _sentence(matched: Evaluation, recipe: Recipe, read: str) -> str:
    """Sentence to quote: data set, n, what was read, each primary contrast with its word."""
    primary = [c for c in matched.contrasts if c.primary]
    if not primary:
        return f"{recipe.title}, reading {read}: no contrast could be run on {recipe.primary or 'the test rows'}."
    d, dataset = primary[0].verdict.difference, primary[0].dataset
    level = {row["method"]: row["value"] for row in matched.rows if row["dataset"] == dataset and _is_level(row)}
    parts = [_compared(c, level) for c in primary]
    sizes = sorted({c.verdict.difference.n for c in primary})  # a contrast has the rows that both methods have scored
    n = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    fewest = min(c.verdict.difference.n_groups for c in primary)
    counted = f"n = {n}, at least {fewest} groups per class, {d.n_seeds} training sets"
    where = "the test rows" if dataset == IN_DISTRIBUTION else dataset
    return f"AUROC on {where} ({counted}), reading {read}: {'; '.join(parts)}."


def _compared(c: Contrasted, level: dict[str, float]) -> str:
    """One contrast in words, with the level of both methods; an inverted one is not compared."""
    one, other = (f"{method} ({share(level[method])})" for method in (c.method, c.versus))
    if c.verdict.inverted:
        return f"{one} and {other} are not compared: {' and '.join(c.verdict.inverted)} inverted, AUROC below .5"
    joined = {
        "better": "better than",
        "worse": "worse than",
        "equivalent": "equivalent to",
        "non-inferior": "non-inferior to",
        "undecided": "undecided against",
    }
    return f"{one} is {joined[c.verdict.word]} {other[:-1]}; {_signed(c.verdict.difference)})"


def _inverted_notes(matched: Evaluation) -> list[str]:
    """Notes, by data set, on contrasted methods that rank the classes the wrong way round, and what may cause it."""
    found: dict[str, dict[str, None]] = {}
    for c in matched.contrasts:
        found.setdefault(c.dataset, {}).update(dict.fromkeys(c.verdict.inverted))
    return [
        f"On {dataset} the AUROC of {', '.join(methods)} is significantly below .5: scores point to the other label. "
        "What reads the concept there reads it with the sign turned over, which a negation in these texts or another "
        "rule for their label does; check both before anything is concluded."
        for dataset, methods in found.items()
        if methods
    ]


def _margin_notes(matched: Evaluation) -> list[str]:
    """Notes on the margin beside the remaining error, where a method is so near to 1 that the margin is wide.

    1 - AUROC is the share of pairs of a positive and a negative in the wrong order. Equivalent is said of both methods,
    and the better one has the error that is left; non-inferior is said of the first against the second.
    """
    level = {(r["dataset"], r["method"]): r["value"] for r in matched.rows if _is_level(r)}
    notes = []
    for c in matched.contrasts:
        word, margin = c.verdict.word, c.verdict.margin
        if not (c.metric == "auroc" and c.primary and word in {"equivalent", "non-inferior"}):
            continue
        one, other = c.method, c.versus
        if word == "non-inferior" or level[c.dataset, other] > level[c.dataset, one]:
            one, other = other, one
        error = 1 - level[c.dataset, one]
        if error < 2 * margin:
            notes.append(
                f"{c.method} against {c.versus}: {one} puts {100 * error:.2g} % of pairs in the wrong order; {word} "
                f"within {within(margin)} leaves room for {100 * (error + margin):.2g} % of {other}. Give a smaller "
                "--margin where that matters."
            )
    return notes


def _is_level(row: dict[str, Any]) -> bool:
    return (row["metric"], row["seed"], row["task"]) == ("auroc", "all", "matched")


def _signed(d: Any) -> str:
    interval = span(d.lo, d.hi, sign=True)
    why = "too few seeds for an interval" if d.n_seeds < FEWEST_SEEDS else f"no interval: {d.reason}"
    return f"difference {signed(d.value)}" + (f" {interval}" if interval else f", {why}")


def _dictionary(dictionaries: Sequence[SiteDictionary]) -> str:
    if not dictionaries:
        return "no dictionary"
    first = dictionaries[0].dictionary
    tokens = first.info.get("training", {}).get("tokens")
    trained = f" on {tokens / 1e6:.1f}M tokens" if tokens else ""
    number = "one dictionary" if len(dictionaries) == 1 else f"{len(dictionaries)} dictionaries"
    return f"{number} of {first.width} latents{trained}"


def _dictionary_notes(dictionaries: Sequence[SiteDictionary], fvu: Fvu) -> list[str]:
    if not dictionaries:
        return ["No dictionary for the matched site: the SAE rows are absent, and this says nothing about SAEs."]
    notes = []
    if len(dictionaries) == 1:
        notes.append("One dictionary: the intervals do not include what another training seed of it would change.")
    for name, by_dataset in fvu.items():
        outside = [f"{lost:.2f} on {dataset}" for dataset, lost in by_dataset.items() if lost > OUTSIDE_DOMAIN]
        if outside:
            notes.append(
                f"Dictionary {name} leaves much of the variance unexplained (FVU {', '.join(outside)}). Whether that "
                "limits SAE rows there, the section on the dictionary concludes from contrasts."
            )
    return notes


def _contrast(c: Contrasted) -> dict[str, Any]:
    d = c.verdict.difference
    numbers = {key: getattr(d, key) for key in ("value", "lo", "hi", "n", "n_groups")}
    words = {"verdict": c.verdict.word, "needs": c.verdict.needs, "margin": c.verdict.margin, "p": c.verdict.p}
    words |= {"p_holm": c.verdict.p_different} if c.p_fdr is None else {"p_fdr": c.p_fdr}
    words |= {"inverted": list(c.verdict.inverted)} if c.verdict.inverted else {}
    place = {"method": c.method, "than": c.versus, "dataset": c.dataset, "metric": c.metric, "primary": c.primary}
    return place | numbers | words | {"p_equivalent": c.verdict.p_equivalent}
