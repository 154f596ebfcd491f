"""The second half of a report: dictionary, costs, limits, methods paragraph, warnings, provenance."""

from typing import Any

from theodolite.core.run import DOMAINS, OUTSIDE_DOMAIN
from theodolite.report import explained, tables
from theodolite.report.blocks import Block, Facts, Figure, Line, Section, Table, Text, Value, absent, number
from theodolite.report.counted import counted_warnings
from theodolite.report.numbers import count, duration, share, size, span
from theodolite.report.plots import learning_curve
from theodolite.report.sheet import Sheet

PLATEAU = {
    True: "It still falls: the dictionary is undertrained.",
    False: "It has levelled off.",
    None: "The run was too short to say whether it has levelled off.",
}
SAE_VIEWS = {"latents", "state+latents", "reconstruction", "error", "control"}


def from_arrays(sheet: Sheet) -> bool:
    """Return whether the run compared rows of the caller's own: it read no text and no model."""
    return bool(sheet.run.facts.get("from_arrays"))


def reads_dictionary(sheet: Sheet) -> bool:
    """Return whether the run has SAE rows; a dictionary from elsewhere has them without having a card."""
    return any(sheet.group(method).key in SAE_VIEWS for method in sheet.rows["method"].unique())


def dictionary(sheet: Sheet) -> Section:
    """Return the section on the dictionary: its card, and where it may be trusted."""
    card = sheet.run.read_json("card")
    if not card:
        return Section("The dictionary", _without_card(sheet))
    blocks: list[Block] = [*explained.blocks(sheet), *explained.untrained(sheet)]
    blocks += [Facts(tuple(_card(card))), _error_table(card)]
    blocks += [Text(sentence, "warning") for sentence in outside(card)]
    if len(card.get("learning_curve") or []) > 1:
        caption = f"Error on held-out documents while training. {PLATEAU[card.get('undertrained')]}"
        blocks.append(Figure(learning_curve(card["learning_curve"]), caption))
    return Section("The dictionary", blocks)


def _without_card(sheet: Sheet) -> list[Block]:
    """Write what is known of a dictionary from elsewhere, its error on the rows of this run, or why there is none."""
    if from_arrays(sheet):
        return [absent("Rows were given, so no dictionary took part: nothing here speaks for or against SAEs.")]
    if not reads_dictionary(sheet):
        why = "No dictionary for this model and site: SAE rows are absent, and nothing here speaks for or against SAEs."
        return [absent(why)]
    said = "It came without a card: what it was trained on, and how well it does on such text, is not known here."
    blocks: list[Block] = [Text(said, "warning"), *explained.blocks(sheet), *explained.untrained(sheet)]
    if measured := sheet.run.facts.get("fvu"):
        head = (Value("Dictionary"), Value("Rows"), number("FVU"))
        of = [(name, dataset, error) for name, by in measured.items() for dataset, error in by.items()]
        lines = [Line((Value(name), Value(dataset), number(share(error)))) for name, dataset, error in of]
        blocks.append(Table("Fraction of variance unexplained on the tokens that were encoded.", head, tuple(lines)))
    return blocks


def outside(card: dict[str, Any]) -> list[str]:
    """Write where the dictionary is outside its domain: a weakness of this dictionary, not of sparse autoencoders."""
    return [
        f"On the {DOMAINS.get(rows, rows)} the dictionary's FVU is {share(error['value'])}: it is outside its domain "
        "there, and a weak SAE row at that place says so of this dictionary, not of SAEs."
        for rows, error in card["fvu"].items()
        if rows != "documents" and error["value"] is not None and error["value"] > OUTSIDE_DOMAIN
    ]


def costs(sheet: Sheet) -> Section:
    """Return the section on costs; the dictionary stands apart, because its price is shared."""
    words = (
        "Fits count every cross-validated configuration and refit; labels are those of one training set. Tokens are "
        "what the model read, over all data sets, to make what a method looks at; methods that look at the same share "
        "them, and reading is a stage of its own. Peak memory is the most the fitting process had taken."
    )
    blocks: list[Block] = [
        Text(words),
        tables.costs(sheet, "Cost of each method at the matched site, all training sets together."),
    ]
    card = sheet.run.read_json("card")
    if card and card.get("seconds"):
        shares = ", ".join(f"{duration(card['seconds'] / n)} over {n}" for n in (10, 100))
        blocks.append(
            Text(
                f"The dictionary took {duration(card['seconds'])} and {size(card['tokens'])} tokens to train. It "
                f"serves every concept read at its site: per concept that is {duration(card['seconds'])} for one, "
                f"{shares}."
            )
        )
    if stages := sheet.run.manifest["stages"]:
        head = (Value("Stage"), number("Time"), number("Peak memory, MB"))
        lines = [Line((Value(s["stage"]), number(duration(s["seconds"])), number(count(s["peak_mb"])))) for s in stages]
        blocks.append(Table("Time and peak memory of each stage of the run.", head, tuple(lines)))
    return Section("Costs", blocks)


def warnings(sheet: Sheet) -> Section:
    """Everything that was counted instead of passed over."""
    counted = [*sheet.run.notes, *_removed(sheet), *_unscored(sheet)]
    return counted_warnings(
        counted,
        caption="Cut, dropped or left out, and how often.",
        nothing="Nothing was cut, dropped or left unscored.",
    )


def _removed(sheet: Sheet) -> list[dict[str, Any]]:
    """Rows that the audit says were taken out of the data sets."""
    found = [lost for data in (sheet.run.read_json("audit") or {}).get("overviews", []) for lost in data["lost"]]
    return [{"kind": "removed", "count": n["n"], "text": f"rows of {n['dataset']}: {n['cause']}"} for n in found]


def _unscored(sheet: Sheet) -> list[dict[str, Any]]:
    """Rows that a method should have scored at the matched site and did not, by data set."""
    rows = sheet.rows[(sheet.rows["task"] == "matched") & (sheet.rows["seed"] == "all")]
    most = rows.groupby(["method", "dataset"], sort=False)["n_unscored"].max()
    return [
        {"kind": "unscored", "count": n, "text": f"rows of {dataset} by {sheet.phrase(method)}"}
        for (method, dataset), n in most.items()
        if n
    ]


def provenance(sheet: Sheet) -> Section:
    """Return the section on provenance: this run, to the byte."""
    manifest, model = sheet.run.manifest, sheet.run.facts.get("model") or {}
    machine = manifest["machine"]
    pairs = [
        ("Run", manifest["id"]),
        ("Recipe digest", manifest["digest"]),
        *([] if from_arrays(sheet) else _model(model)),
        *([("Command", manifest["command"])] if manifest["command"] else []),
        ("Started, finished", f"{manifest['started']}, {manifest['finished']}"),
        (
            "Machine",
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}",
        ),
        ("Versions", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())),
        *((f"sha256 of {name}", digest) for name, digest in manifest["files"].items() if _is_table(name)),
    ]
    return Section("Provenance", [Facts(tuple(pairs))])


def _is_table(name: str) -> bool:
    """Return whether a file of the run holds numbers of the page; documents and readers are in the manifest."""
    return name.endswith((".csv", ".parquet"))


def _model(model: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("Model hash", str(model.get("hash", "not recorded"))),
        ("Arithmetic", f"{model.get('dtype', 'not recorded')} on {model.get('device', 'not recorded')}"),
    ]


def _card(card: dict[str, Any]) -> list[tuple[str, str]]:
    dead = card.get("dead_share")
    pairs = [
        ("Site", str(card.get("site", "not recorded"))),
        ("Latents, active per token", f"{count(card.get('width'))}, {card.get('k', 'not recorded')}"),
        ("Tokens trained on", size(card["tokens"])),
        ("Mean active latents (L0)", f"{card['l0']:.1f}"),
        ("Never active", "not measured" if dead is None else f"{dead:.1%} of latents"),
    ]
    recovered = card.get("ce_recovered")
    return [*pairs, ("CE recovered", "not measured" if recovered is None else share(recovered))]


def _error_table(card: dict[str, Any]) -> Table:
    head = (Value("Rows"), number("FVU"), number("n"))
    lines = [
        Line(
            (
                Value(DOMAINS.get(rows, rows)),
                number(share(e["value"]), span(e.get("lo"), e.get("hi"))),
                number(count(e.get("n"))),
            )
        )
        for rows, e in card["fvu"].items()
    ]
    caption = (
        "Fraction of variance unexplained (error energy over variance about the mean of the same rows) [95 % interval]."
    )
    return Table(caption, head, tuple(lines))
