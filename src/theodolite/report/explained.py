"""The dictionary's own conclusion, data set by data set: outside its domain, undertrained, or neither, and by what."""

from typing import Any

from theodolite.report import names
from theodolite.report.blocks import Block, Line, Table, Text, Value, number
from theodolite.report.numbers import difference, share, signed, span
from theodolite.report.sheet import Sheet

CONTRASTS = {
    "lost": "Reconstruction minus dense",
    "missed": "Error minus reconstruction",
    "summed": "Latents minus reconstruction",
}
MEANS = {
    "outside its domain": "weak SAE rows there speak of this dictionary on these rows, not of SAEs",
    "undertrained": "weak SAE rows there speak of a training that ended early, not of SAEs",
    "neither": "what a linear reader finds there in SAE rows is not limited by a foreign domain or a short training",
    "undecided": "the contrasts do not say what limits SAE rows there",
}


def blocks(sheet: Sheet) -> list[Block]:
    """The conclusion in words, the numbers it rests on, and other dictionaries of the run; [] where none was drawn."""
    found = sheet.run.read_json("dictionary")
    if not found or not found["datasets"]:
        return []
    made: list[Block] = [Text(words) for words in sentences(sheet)]
    made.append(_table(found))
    if found["beside"]:
        made.append(_others(found))
    return made


def untrained(sheet: Sheet) -> list[Block]:
    """One sentence for each dictionary that has untrained controls only: what they are, and what they show."""
    said = []
    for dictionary, kinds in names.untrained(sheet.rows["method"].unique()).items():
        of = f"the dictionary {dictionary}" if dictionary else "this dictionary"
        one = len(kinds) == 1
        many = {1: "one untrained one stands", 2: "two untrained ones stand", 3: "three untrained ones stand"}
        said.append(
            f"No trained control exists for {of}; {many[len(kinds)]} beside it: {', '.join(kinds)}; "
            f"{'it shows' if one else 'they show'} what its width alone reads."
        )
    return [Text(words) for words in said]


def sentences(sheet: Sheet) -> list[str]:
    """One for every conclusion there is, with the data sets it holds on and the contrast it rests on."""
    found = sheet.run.read_json("dictionary")
    if not found:
        return []
    said = []
    for word, meaning in MEANS.items():
        on = [one for one in found["datasets"] if one["conclusion"] == word]
        if on:
            listed = "; ".join(_because(one, found) for one in on)
            said.append(f"{_start(word, len(on), len(found['datasets']))}: {listed}. So {meaning}.")
    return said


def _start(word: str, n: int, of: int) -> str:
    where = f"on {n} of {of} data sets" if of > 1 else "on the one data set"
    named = {"neither": "Neither outside its domain nor undertrained", "undecided": "Undecided"}
    return f"{named.get(word, f'The dictionary is {word}')} {where}"


def _because(one: dict[str, Any], found: dict[str, Any]) -> str:
    """The data set with its FVU and the contrast that decides it."""
    lost, missed = (one["contrasts"].get(name) for name in ("lost", "missed"))
    decisive = missed if missed and missed["verdict"] == "better" and (lost or {}).get("verdict") != "worse" else lost
    if decisive is None:
        return f"{one['dataset']} (FVU {share(one['fvu'])}; no reader of its reconstruction was run)"
    name = next(key for key, contrast in one["contrasts"].items() if contrast is decisive)
    words = f"{CONTRASTS[name].lower()} {difference(decisive)}, {decisive['verdict']}"
    if one["conclusion"] == "undertrained":
        words += ", and its learning curve still fell"
    if one["conclusion"] == "undecided" and decisive["verdict"] == "worse" and found["undertrained"] is None:
        words += ", and nothing is known of its training"
    return f"{one['dataset']} (FVU {share(one['fvu'])}; {words})"


def _table(found: dict[str, Any]) -> Table:
    head = [Value("Rows"), number("FVU"), *map(number, CONTRASTS.values()), Value("Conclusion")]
    lines = []
    for one in found["datasets"]:
        cells = [_cell(one["contrasts"].get(name)) for name in CONTRASTS]
        lines.append(Line((Value(one["dataset"]), number(share(one["fvu"])), *cells, Value(one["conclusion"]))))
    caption = (
        "What the dictionary keeps, by data set: fraction of variance unexplained on the tokens that were encoded "
        "(mean over dictionaries; test rows and left-out sources are rows of the training file), and differences in "
        "AUROC of a logistic reader [95 % interval], not corrected for their number. Outside its domain: FVU above "
        f"{found['outside_from']:g}, and the reconstruction is worse than the dense state or the error is better than "
        "the reconstruction. Undertrained: the same at a lower FVU, with a learning curve that still fell. Neither: "
        "the reconstruction is equivalent or better, or the dictionary was trained out."
    )
    return Table(caption, tuple(head), tuple(lines))


def _others(found: dict[str, Any]) -> Table:
    """Other dictionaries that were read at the same site: their FVU, and their latents against the compared one's."""
    head = (Value("Other dictionary"), Value("Rows"), number("FVU"), number("Its latents minus the compared ones"))
    lines = [
        Line((Value(one["name"]), Value(one["dataset"]), number(share(one["fvu"])), _cell(one["latents"])))
        for one in found["beside"]
    ]
    caption = (
        "Other dictionaries at this site, on the same rows: FVU, and the difference in AUROC of a logistic reader."
    )
    return Table(caption, head, tuple(lines))


def _cell(contrast: dict[str, Any] | None) -> Value:
    if contrast is None:
        return number("not run")
    return number(signed(contrast["value"]), span(contrast["lo"], contrast["hi"], sign=True))
