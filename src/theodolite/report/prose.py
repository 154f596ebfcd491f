"""The two parts of a report that are prose: limits, and a methods paragraph to copy. Both state only recorded facts."""

from typing import Any

from theodolite.core.run import IN_DISTRIBUTION
from theodolite.report.blocks import Points, Section, Text
from theodolite.report.context import from_arrays, outside, reads_dictionary
from theodolite.report.numbers import count, share, short, size, within
from theodolite.report.sheet import Sheet


def limits(sheet: Sheet) -> Section:
    """Return the section on what the numbers do not say."""
    return Section("Limits", [Points(tuple(s for part in (_subject, _design, _choices) for s in part(sheet)))])


def _subject(sheet: Sheet) -> list[str]:
    if from_arrays(sheet):
        return [
            "Rows as they were given: nothing here speaks of where they come from, nor of another way to make them.",
            "Intervals speak of new rows and new training sets from the same population, not of other kinds of rows.",
        ]
    model = sheet.run.facts.get("model") or {}
    which = f" of {size(model['parameters'])} parameters" if model.get("parameters") else ""
    which += f", the weights of its blocks {model['quantisation']}" if model.get("quantisation") else ""
    return [
        f"One model{which}: nothing here speaks of other models.",
        "A method that reads a concept does not show that the model uses it.",
        "Intervals speak of new rows and new training sets from the same populations, not of other kinds of text.",
    ]


def _design(sheet: Sheet) -> list[str]:
    recipe, card, said = sheet.run.recipe, sheet.run.read_json("card"), []
    if recipe.get("quick"):
        said.append(
            "A quick run: fewer rows, methods and training sets than the recipe asks for. To look at, not to report."
        )
    if sheet.few_training_sets:
        said.append(
            f"{recipe.get('seeds')} training sets are too few for an interval between them: they are shown as points."
        )
    if card or reads_dictionary(sheet):
        seeds = sheet.run.facts.get("dictionaries", 1)
        several = (
            f"{seeds} dictionary seeds are in the intervals" if seeds > 1 else "One dictionary, not in the intervals"
        )
        said.append(f"{several}: what another width or corpus would give is unknown.")
    if card:
        said += outside(card)
        if card.get("undertrained"):
            said.append(
                "The dictionary's error still fell when its training ended: more tokens would make a better one."
            )
    if IN_DISTRIBUTION in set(sheet.rows["dataset"]):
        mix = "The test rows come from the place the training rows come from"
        if sheet.several_sources and not from_arrays(sheet):
            mix = "The training mix measures source recognition at least in part"
        only = {column.kind for column in sheet.headline("matched")} == {"mix"}
        new = "how rows from elsewhere fare" if from_arrays(sheet) else "how a new kind of text fares"
        said.append(f"{mix}: {new} is unknown." if only else f"{mix}.")
    return said


def _choices(sheet: Sheet) -> list[str]:
    recipe = sheet.run.recipe
    fixed = "the contrasts of the verdict"
    if (sheet.run.read_json("selection") or {}).get("as_fixed"):
        fixed += " and the primary analysis of single predictions"
    said = [
        f"Only {fixed} were fixed before the run; all else is exploratory, its words not adjusted for their number."
    ]
    if sealed := recipe.get("sealed"):
        opened = "was opened by this run (--final)" if recipe.get("final") else "stayed closed in this run"
        said.append(f"The sealed data set {sealed} {opened}.")
    return said


def methods(sheet: Sheet) -> Section:
    """A paragraph to copy into a paper."""
    parts = (_read, _split, _tuned, _scored, _selected, _decided)
    text = " ".join(filter(None, (part(sheet, sheet.run.facts.get("protocol", {})) for part in parts)))
    return Section(
        "Methods paragraph", [Text("To copy. It states only what this run recorded.", "note"), Text(text, "copy")]
    )


def _read(sheet: Sheet, protocol: dict[str, Any]) -> str:
    recipe, model = sheet.run.recipe, sheet.run.facts.get("model") or {}
    text = "chat-formatted" if recipe.get("format") == "chat" else "raw"
    told = f"We compared {_counted(sheet)} at telling {recipe.get('positive')} from {recipe.get('negative')}"
    if from_arrays(sheet):
        return f"{told} on rows that were given."
    about = [f"{size(model['parameters'])} parameters"] if model.get("parameters") else []
    about += [model["quantisation"]] if model.get("quantisation") else []
    return (
        f"{told} texts in {model.get('name', recipe.get('model'))}"
        f"{' (' + ', '.join(about) + ')' if about else ''}. Texts were {text} and cut at {recipe.get('max_tokens')} "
        f"tokens; activations were read at {recipe.get('site')} "
        f"({sheet.way(recipe.get('pooling'), recipe.get('positions'))}).{_chosen(sheet)}{_latents(sheet)}"
    )


def _chosen(sheet: Sheet) -> str:
    """Write how pooling and positions were chosen, where the recipe left them open."""
    found = sheet.run.facts.get("pooling")
    if not found:
        return ""
    return (
        f" Pooling and positions were chosen among {len(found['candidates'])} candidates by the log loss of "
        f"{found['reader']} on out-of-fold training rows."
    )


def _counted(sheet: Sheet) -> str:
    """Methods as the tables list them: draws of a random control are one, as is a method on another dictionary."""
    n = len({entry.method.partition(" [")[0] for entry in sheet.entries("matched")})
    return f"{n} method" + "s" * (n != 1)


def _latents(sheet: Sheet) -> str:
    """The dictionary by its card; without one only its name and that its training is unknown."""
    if card := sheet.run.read_json("card"):
        error = card["fvu"].get("documents", {}).get("value")
        return (
            f" Latents come from a TopK dictionary ({count(card.get('width'))} latents, k = {card.get('k')}) trained "
            f"on {size(card['tokens'])} tokens (FVU {share(error)} on held-out documents)."
        )
    if not reads_dictionary(sheet):
        return ""
    measured = sheet.run.facts.get("fvu") or {}
    errors = [f"{name} (FVU {share(by['train'])} on the training rows)" for name, by in measured.items()]
    return f" Latents come from {', '.join(errors) or 'a dictionary'}, whose training is not recorded here."


def _split(sheet: Sheet, protocol: dict[str, Any]) -> str:
    if "shares" not in protocol:
        return ""
    shares = "/".join(f"{100 * s:.3g}" for s in protocol["shares"])
    leak = ""
    if "leak_cosine" in protocol and sheet.run.recipe.get("shifts"):
        cosine = short(protocol["leak_cosine"])
        rule = sheet.run.recipe.get("leaks", "drop-all")  # what runs before this was a choice did
        which = "any training row" if rule == "drop-all" else "a training row of their label"
        if rule != "keep-all":
            leak = f" Shift rows within {cosine} character 4-gram cosine of {which} were removed."
    what, alike = "near-duplicate clusters", "label and source"
    if from_arrays(sheet):
        what, alike = "sets of equal rows", "label"
    return (
        f"For each of {sheet.run.recipe.get('seeds')} seeds, {what} were split {shares} % into train, calibrate, "
        f"certify and test, stratified by {alike}.{leak}"
    )


def _tuned(sheet: Sheet, protocol: dict[str, Any]) -> str:
    if "configurations" not in protocol:
        return ""
    return (
        f"Each method chose among at most {protocol['configurations']} configurations by log-loss over "
        f"{protocol['folds']} grouped folds, the simplest within one standard error of the best."
    )


def _scored(sheet: Sheet, protocol: dict[str, Any]) -> str:
    if "bootstrap" not in protocol:
        return ""
    if sheet.few_training_sets:
        return (
            "We report the AUROC of each procedure, the mean over its training sets, and that of each training set; "
            "they are too few for an interval."
        )
    return (
        "We report the expected AUROC of each procedure, the mean over its training sets; 95 % intervals add the "
        f"variance of refits to a cluster bootstrap of test rows ({count(protocol['bootstrap'])} replicates)."
    )


def _selected(sheet: Sheet, protocol: dict[str, Any]) -> str:
    found = sheet.run.read_json("selection")
    if not found or not found["claims"]:
        return ""
    of = "; ".join(dict.fromkeys(sheet.phrase(claim["method"]) for claim in found["claims"]))
    certify, shifted = found["choices"][0]["certify"], any(c["dataset"] != IN_DISTRIBUTION for c in found["claims"])
    return (
        f"Single predictions were selected at an accuracy of {found['level']:g} ({of}): for each reader and training "
        "set the feature space and confidence (SDM's q', or the maximum softmax or the agreement of neighbours behind "
        "a gate on distance) with the highest expected coverage on the calibration rows, its threshold certified by "
        "learn-then-test (fixed sequence; accuracies within each label and each prediction) on "
        f"{sum(certify)} rows ({certify[0]} and {certify[1]} of the labels in the first training set), one per "
        f"near-duplicate cluster, at delta {found['delta_each']:.3g} each. Whether the accuracy holds or fails was "
        "tested one-sidedly, "
        + ("adjusted after Holm over reader and shift, and unadjusted on the test rows." if shifted else "unadjusted.")
    )


def _decided(sheet: Sheet, protocol: dict[str, Any]) -> str:
    decided = (sheet.run.read_json("verdict") or {}).get("contrasts", [])
    software = sheet.run.manifest["versions"]
    with_what = (
        f"Software: {', '.join(f'{name} {software[name]}' for name in ('theodolite', 'torch', 'scikit-learn'))}."
    )
    if not decided:
        return with_what
    where = "the test rows" if decided[0]["dataset"] == IN_DISTRIBUTION else decided[0]["dataset"]
    return (
        f"The contrasts on {where} ({len(decided)}) were fixed in advance, their p-values "
        f"adjusted after Holm; a difference within {within(sheet.margin)} counts as equivalent. {with_what}"
    )
