"""Facts of the verdict and the dictionary's card: artefacts/verdict.json and card.json, which the report writes out."""

from collections.abc import Mapping, Sequence
from typing import Any

from theodolite.comparison import tables
from theodolite.comparison.evaluate import Contrasted, Evaluation
from theodolite.comparison.explained import Fvu
from theodolite.core.recipe import Contrast, Recipe
from theodolite.core.run import DOMAINS, IN_DISTRIBUTION, LEFT_OUT, OUTSIDE_DOMAIN, Run
from theodolite.models.model import Model
from theodolite.study.subjects import SiteDictionary

Note = dict[str, Any]  # a code and what it is about


def write(
    matched: Evaluation,
    recipe: Recipe,
    read: Mapping[str, Any],
    dictionaries: Sequence[SiteDictionary],
    fvu: Fvu,
    run: Run,
) -> None:
    """Write verdict.json, and card.json where the matched site has a dictionary; read: what was read (`subject`)."""
    about = [] if run.facts.get("from_arrays") else _dictionary_notes(dictionaries, fvu)
    notes = [*about, *({"code": "not run", "method": a, "than": b} for a, b in matched.missing)]
    notes += [*_inverted_notes(matched), *_margin_notes(matched)]
    decided = recipe.primary or IN_DISTRIBUTION
    fixed = [*recipe.contrasts, *tables.EXPLORATORY]  # in the recipe or in our code: not one was picked by a result
    asked = [c for c in matched.contrasts if Contrast(method=c.method, than=c.versus) in fixed]
    levels = _levels(matched)
    verdict = {
        "dataset": decided,
        "read": dict(read),
        "contrasts": [_contrast(c) | _level_of(c, levels) for c in matched.contrasts if c.primary],
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
    """The dictionary's own card, as far as a report shows it."""
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


def subject(recipe: Recipe, model: Model, dictionaries: Sequence[SiteDictionary]) -> dict[str, Any]:
    """Facts that every sentence about the run must name: site, model, dictionaries with their width and training."""
    first = dictionaries[0].dictionary if dictionaries else None
    return {
        "site": recipe.site,
        "model": model.name,
        "parameters": model.parameters,
        "quantisation": model.quantisation,
        "dictionaries": len(dictionaries),
        "width": first.width if first else None,
        "tokens": first.info.get("training", {}).get("tokens") if first else None,
    }


def _levels(matched: Evaluation) -> dict[tuple[str, str], float]:
    """AUROC by data set and method."""
    return {(row["dataset"], row["method"]): row["value"] for row in matched.rows if _is_level(row)}


def _level_of(c: Contrasted, levels: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    d = c.verdict.difference
    ends = {"level": levels[c.dataset, c.method], "than_level": levels[c.dataset, c.versus]}
    return ends | {"n_seeds": d.n_seeds, "no_interval": d.reason}


def _inverted_notes(matched: Evaluation) -> list[Note]:
    """Contrasted methods, by data set, that rank the classes the wrong way round."""
    found: dict[str, dict[str, None]] = {}
    for c in matched.contrasts:
        found.setdefault(c.dataset, {}).update(dict.fromkeys(c.verdict.inverted))
    return [
        {"code": "inverted", "dataset": name, "methods": list(methods)} for name, methods in found.items() if methods
    ]


def _margin_notes(matched: Evaluation) -> list[Note]:
    """Primary contrasts of a method so near to 1 that the margin is wide beside the error that is left.

    1 - AUROC is the share of pairs of a positive and a negative in the wrong order. Equivalent is said of both methods,
    and the better one has the error that is left; non-inferior is said of the first against the second.
    """
    level, notes = _levels(matched), []
    for c in matched.contrasts:
        word, margin = c.verdict.word, c.verdict.margin
        if not (c.metric == "auroc" and c.primary and word in {"equivalent", "non-inferior"}):
            continue
        one, other = c.method, c.versus
        if word == "non-inferior" or level[c.dataset, other] > level[c.dataset, one]:
            one, other = other, one
        error = 1 - level[c.dataset, one]
        if error < 2 * margin:
            about = {"method": c.method, "than": c.versus, "verdict": word, "margin": margin}
            notes.append({"code": "margin", **about, "better": one, "other": other, "error": error})
    return notes


def _is_level(row: dict[str, Any]) -> bool:
    return (row["metric"], row["seed"], row["task"]) == ("auroc", "all", "matched")


def _dictionary_notes(dictionaries: Sequence[SiteDictionary], fvu: Fvu) -> list[Note]:
    """Notes on what limits the rows of latents: no dictionary, one alone, or rows outside the domain of one."""
    if not dictionaries:
        return [{"code": "no dictionary"}]
    notes: list[Note] = [{"code": "one dictionary"}] if len(dictionaries) == 1 else []
    for name, by_dataset in fvu.items():
        outside = {dataset: lost for dataset, lost in by_dataset.items() if lost > OUTSIDE_DOMAIN}
        notes += [{"code": "outside domain", "dictionary": name, "fvu": outside}] if outside else []
    return notes


def _contrast(c: Contrasted) -> dict[str, Any]:
    d = c.verdict.difference
    numbers = {key: getattr(d, key) for key in ("value", "lo", "hi", "n", "n_groups")}
    words = {"verdict": c.verdict.word, "needs": c.verdict.needs.facts(), "margin": c.verdict.margin, "p": c.verdict.p}
    words |= {"p_holm": c.verdict.p_different} if c.p_fdr is None else {"p_fdr": c.p_fdr}
    words |= {"inverted": list(c.verdict.inverted)} if c.verdict.inverted else {}
    place = {"method": c.method, "than": c.versus, "dataset": c.dataset, "metric": c.metric, "primary": c.primary}
    return place | numbers | words | {"p_equivalent": c.verdict.p_equivalent}
