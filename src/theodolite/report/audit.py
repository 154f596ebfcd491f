"""The data audit as a section: what a user would otherwise discover too late."""

from collections.abc import Mapping
from typing import Any

from theodolite.report.blocks import Block, Line, Section, Table, Text, Value, absent, number
from theodolite.report.numbers import NONE, count, p_value, share, signed, span
from theodolite.report.sheet import Sheet

SHORTCUT_HEAD = (
    Value("Kind"),
    Value("What"),
    *map(number, ["Effect", "z", "p", "Among positive", "Among negative", "Rows"]),
)
SHOWN = 25  # shortcuts in the table, the strongest of every kind in turn; the rest is counted
SHOWN_LATENTS = 10
FEATURES = {
    "length": "Length alone",
    "surface": "Surface form",
    "words": "Bag of words",
    "characters": "Characters as they stand",
}
WORDS = {"term", "characters", "cluster"}  # shortcuts whose name quotes the data
KINDS = {
    "term": "words and pairs of words",
    "surface": "surface form",
    "characters": "runs of characters",
    "cluster": "clusters of texts",
    "source": "sources",
    "latent": "latents",
}
NAMED_TOKENS = 8
FEWEST_CLUSTERS = 40  # with fewer, only what nearly decides the label goes beyond chance


def audit(sheet: Sheet) -> Section:
    """Counts, what trivial baselines can do, candidate shortcuts."""
    found = sheet.run.read_json("audit")
    if not found:
        return Section("Data audit", [absent("This run kept no audit of its data.")])
    hidden = may_not_be_quoted(sheet.run.recipe) and not sheet.show_text
    return Section("Data audit", blocks(found, hidden=hidden))


def may_not_be_quoted(recipe: Mapping[str, Any]) -> bool:
    """Return whether a recipe is private (harmful texts are), or trains on texts that must not be passed on.

    Shortcuts are sought among the training rows alone, so the shifts' licences do not matter here.

    >>> may_not_be_quoted({"train": [{"redistributable": True}, {"redistributable": False}]}), may_not_be_quoted({})
    (True, False)
    """
    return bool(recipe.get("private")) or any(not s.get("redistributable", True) for s in recipe.get("train", []))


def blocks(found: dict[str, Any], *, hidden: bool = False) -> list[Block]:
    """The parts of an audit in JSON form; `hidden` keeps words of the data out."""
    return [
        _overview(found["overviews"]),
        *(Text(f"{data['name']}: {data['note']}", "note") for data in found["overviews"] if data["note"]),
        *(Text(_special(data), "warning") for data in found["overviews"] if data.get("special")),
        *_lost(found["overviews"]),
        *_near(found["overviews"]),
        _baselines(found["baselines"]),
        *_shortcuts(found, hidden),
    ]


def _overview(overviews: list[dict[str, Any]]) -> Table:
    numbers = ["Rows", "Positive", "Clusters", "Requests", "Templates"]
    head = (Value("Data set"), *map(number, numbers), Value("Sources (label 0, label 1)"), Value("Licence"))
    caption = (
        "The data after cleaning. Near-duplicates share a cluster, and no cluster is split between train and test."
    )
    return Table(caption, head, tuple(map(_data, overviews)))


def _data(data: dict[str, Any]) -> Line:
    sources = [f"{name} ({count(zeros)}, {count(ones)})" for name, (zeros, ones) in data["sources"].items()]
    licence = data["licence"] + ("" if data["redistributable"] else ", fetched at use, not redistributed")
    sizes = [count(data[key]) if data[key] else NONE for key in ("n_clusters", "n_requests", "n_templates")]
    balance = share(data["n_positive"] / data["n"]) if data["n"] else NONE
    cells = (count(data["n"]), balance, *sizes)
    return Line((Value(data["name"]), *map(number, cells), Value("; ".join(sources)), Value(licence)))


def _lost(overviews: list[dict[str, Any]]) -> list[Block]:
    """Rows removed, by cause and data set."""
    lost = {(c["dataset"], c["cause"]): c["n"] for data in overviews for c in data["lost"]}
    causes = list(dict.fromkeys(cause for _, cause in lost))
    if not causes:
        return [Text("No row was removed.")]
    names = [data["name"] for data in overviews]
    head = (Value("Why"), *map(number, names))
    lines = [Line((Value(cause), *(number(count(lost.get((name, cause), 0))) for name in names))) for cause in causes]
    return [Table("Rows removed before anything was fitted.", head, tuple(lines))]


def _special(data: dict[str, Any]) -> str:
    named = [f"{token} ({count(n)})" for token, n in list(data["special"].items())[:NAMED_TOKENS]]
    rest = len(data["special"]) - len(named)
    return (
        f"{data['name']}: {count(data['n_special'])} rows hold control tokens of common vocabularies as text: "
        f"{', '.join(named)}{f' and {rest} others' if rest else ''}."
    )


def _near(overviews: list[dict[str, Any]]) -> list[Block]:
    """Near-copies of training rows in the shifts, both counts always: a copy with the other label is no leak."""
    shifts = [data for data in overviews[1:] if "near" in data]
    if not shifts:
        return []
    head = (Value("Shift"), *map(number, ["Same label: left", "kept", "Other label: left", "kept"]))
    keys = ("same_label_left", "same_label_kept", "other_label_left", "other_label_kept")
    lines = [Line((Value(d["name"]), *(number(count(d["near"][key])) for key in keys))) for d in shifts]
    caption = (
        "Shift rows that are near-copies of a training row or few-shot prompt, by whether its label is the same. "
        "Those with the other label stay unless the comparison says --leaks drop-all."
    )
    return [Table(caption, head, tuple(lines))]


def _baselines(baselines: list[dict[str, Any]]) -> Table:
    """The text-only features beside each other, for every pair of fitted-on and scored-on."""
    pairs = dict.fromkeys((b["scored_on"], b["fitted_on"]) for b in baselines)
    cells = {(b["scored_on"], b["fitted_on"], b["feature"]): b for b in baselines}
    head = (Value("Scored on"), Value("Fitted on"), *map(number, FEATURES.values()), number("Rows"))
    lines = []
    for scored, fitted in pairs:
        row = [cells.get((scored, fitted, feature)) for feature in FEATURES]
        values = [number(share(b["auroc"]), span(b["lo"], b["hi"])) if b else number(NONE) for b in row]
        one = next(b for b in row if b)
        size = number(count(one["n"]), f"in {count(one['n_groups'])} groups")
        lines.append(Line((Value(scored), Value(fitted), *values, size)))
    caption = (
        "AUROC of classifiers that never saw the model: a method that does no better has read the data set, not the "
        "concept. In brackets: 95 % over fresh groups of rows; fitted on other rows, for that one fit. Fitted on "
        "itself: grouped cross-validation, whose interval counts the rows as training and as test rows."
    )
    return Table(caption, head, tuple(lines))


def _shortcuts(found: dict[str, Any], hidden: bool) -> list[Block]:
    search = found["shortcuts"]
    shortcuts, with_source = search["shortcuts"], search.get("with_source", [])
    tried = " ".join(filter(None, [_tried(search), _source_and_label(search.get("source"))]))
    warned = [
        Text(f"{count(search['n_rows'])} clusters are too few for a search: a shortcut may stay unseen.", "warning")
    ]
    few = search["n_rows"] < FEWEST_CLUSTERS and not shortcuts
    inside = "Effect: share among the positives minus share among the negatives, inside sources; of sources, over all."
    over_all = (
        "Beyond chance over all rows only, not inside sources: the source goes with the label, and these go with the "
        "source. Effect: share among the positives minus share among the negatives, over all rows."
    )
    unseen = _unseen(search)
    result = f"Beyond chance: {_totals(shortcuts)}." if shortcuts else "None went beyond chance."
    return [
        Text(" ".join(filter(None, [tried, result, unseen]))),
        *(warned if few else []),
        *_listed(
            shortcuts, "Shortcuts beyond chance", "Latents that go with the label, as they should", inside, hidden
        ),
        *([Text(f"Goes with the source: {_totals(with_source)}.", "warning")] if with_source else []),
        *_listed(with_source, "What goes with the source", "Latents that go with the source", over_all, hidden),
    ]


def _tried(search: dict[str, Any]) -> str:
    return (
        f"{count(search['n_candidates'])} candidates (words, surface form, runs of characters, clusters of texts, "
        f"sources, latents) in {count(search['n_rows'])} training rows, one per near-duplicate cluster; labels were "
        f"permuted {count(search['n_permutations'])} times, and p is the share of permutations in which any candidate "
        "of its kind did as well. Kinds are found at a false-discovery rate of 5 %. Labels were permuted inside every "
        "source that has both classes, and over all other sources together: there, whatever marks a source marks the "
        "label. For sources themselves labels were permuted over all rows."
    )


def _source_and_label(source: dict[str, Any] | None) -> str:
    """Return the sentence on how far the source alone tells the label; "" for one source or a run without it."""
    if not source or source["n_sources"] < 2:
        return ""
    return (
        f"Source and label: Cram\N{LATIN SMALL LETTER E WITH ACUTE}r's V {share(source['cramers_v'])}; the commoner "
        f"label of its source is right for {share(source['decided'])} of the rows, the commoner label of all for "
        f"{share(source['commoner'])}."
    )


def _unseen(search: dict[str, Any]) -> str:
    """Return the sentence on what a search of so many rows cannot see; "" for a run that did not keep it."""
    if "detectable" not in search:
        return ""
    if search["detectable"] is None:
        return "At this number of rows even a word in every positive and no negative would go unseen."
    return (
        "At this number of rows a word that no negative holds would go unseen in fewer than about "
        f"{100 * search['detectable']:.0f} % of the positives."
    )


def _totals(shortcuts: list[dict[str, Any]]) -> str:
    kinds = [kind for kind in KINDS if any(s["kind"] == kind for s in shortcuts)]
    totals = ", ".join(f"{KINDS[kind]} {count(sum(s['kind'] == kind for s in shortcuts))}" for kind in kinds)
    return f"{count(len(shortcuts))} ({totals})"


def _listed(shortcuts: list[dict[str, Any]], what: str, latents: str, effect: str, hidden: bool) -> list[Block]:
    """A table of the strongest shortcuts and one of the strongest latents, each where there are any."""
    shown: list[Block] = []
    for latent, title, most in ((False, what, SHOWN), (True, latents, SHOWN_LATENTS)):
        if found_here := [s for s in shortcuts if (s["kind"] == "latent") == latent]:
            lines = tuple(_shortcut(s, hidden) for s in _strongest(found_here, most))
            rest = len(found_here) - len(lines)
            cut = f", the {most} strongest, of every kind in turn; {count(rest)} more" if rest > 0 else ""
            shown.append(Table(f"{title}{cut}. {effect}", SHORTCUT_HEAD, lines))
    return shown


def _strongest(shortcuts: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The first of every kind, then the second of every kind, until there are enough; listed kind by kind.

    Hundreds of n-grams may be stronger than the one surface feature that the user should look at.
    """
    place: dict[int, tuple[int, int]] = {}
    seen: dict[str, int] = {}
    for i, s in enumerate(shortcuts):
        seen[s["kind"]] = seen.get(s["kind"], 0) + 1
        place[i] = (seen[s["kind"]], i)
    chosen = sorted(place, key=place.__getitem__)[:most]
    order = list(dict.fromkeys(s["kind"] for s in shortcuts))
    return [shortcuts[i] for i in sorted(chosen, key=lambda i: (order.index(shortcuts[i]["kind"]), i))]


def _shortcut(s: dict[str, Any], hidden: bool) -> Line:
    name = "not shown (--show-text shows it)" if hidden and s["kind"] in WORDS else s["name"]
    numbers = [
        signed(s["effect"]) if "effect" in s else NONE,
        f"{s['z']:+.1f}".replace("-", "\N{MINUS SIGN}"),
        p_value(s["p"]),
        share(s["share_positive"]),
        share(s["share_negative"]),
        count(s["n"]),
    ]
    return Line((Value(s["kind"]), Value(name), *map(number, numbers)))
