"""Share of a concept that the dictionary at the matched site keeps, by data set: artefacts/dictionary.json.

A weak row of latents has three causes that look alike: the rows are outside the dictionary's domain, its training ended
early, or what is wrong lies in reading latents. Each is named only where a contrast on the same rows was measured:
reconstruction against the dense state says what the dictionary's error costs a linear reader, error against
reconstruction whether the concept is rather in what it misses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from theodolite.comparison.baselines import difference
from theodolite.comparison.evaluate import Contrasted, Evaluation
from theodolite.comparison.fits import Fitted
from theodolite.core.recipe import Contrast
from theodolite.core.run import AGAINST, IN_DISTRIBUTION, LEFT_OUT, OUTSIDE_DOMAIN
from theodolite.study.subjects import SiteDictionary

Fvu = Mapping[str, Mapping[str, float]]  # by dictionary and data set, on the token rows that were encoded
LOST = Contrast(method="logistic@reconstruction", than="logistic")
MISSED = Contrast(method="logistic@error", than="logistic@reconstruction")
SUMMED = Contrast(method="logistic@latents", than="logistic@reconstruction")
ASKED = {"lost": LOST, "missed": MISSED, "summed": SUMMED}
OUTSIDE, UNDERTRAINED, NEITHER, OPEN = "outside its domain", "undertrained", "neither", "undecided"


def contrasts(fitted: Sequence[Fitted]) -> list[Contrast]:
    """Contrasts above, and latents of every other dictionary at the site against those of the compared one."""
    others = {f.job.label for f in fitted if f.job.family and f.job.method == SUMMED.method}
    return [*ASKED.values(), *(Contrast(method=label, than=SUMMED.method) for label in sorted(others))]


def facts(matched: Evaluation, dictionaries: Sequence[SiteDictionary], fvu: Fvu, beside: Fvu) -> dict[str, Any]:
    """FVU, contrasts and the conclusion on every data set, and the same of other dictionaries beside.

    fvu: of the compared dictionaries. beside: of every other one at the site, by the name in its rows' brackets.
    """
    undertrained = _undertrained(dictionaries)
    found = [c for c in matched.contrasts if c.metric == "auroc"]
    datasets = [d for d in dict.fromkeys(c.dataset for c in found) if _rows_of(d, fvu)]
    return {
        "outside_from": OUTSIDE_DOMAIN,
        "undertrained": undertrained,
        "datasets": [_concluded(dataset, found, fvu, undertrained) for dataset in datasets],
        "beside": [_beside(name, dataset, by, found) for name, by in beside.items() for dataset in datasets],
    }


def conclude(fvu: float, undertrained: bool | None, lost: str | None, missed: str | None) -> str:
    """The one cause that the measured contrasts allow; lost, missed: their words, None where not measured.

    A high FVU alone is no finding: what it leaves out may not matter here. Nor is a learning curve that still falls.

    >>> conclude(0.7, None, "worse", "undecided"), conclude(0.7, None, "equivalent", "worse")
    ('outside its domain', 'neither')
    >>> conclude(0.2, True, "worse", "worse"), conclude(0.2, None, "worse", None)
    ('undertrained', 'undecided')
    """
    costs = lost == "worse" or missed == "better"
    if costs and fvu > OUTSIDE_DOMAIN:
        return OUTSIDE
    if costs:
        return OPEN if undertrained is None else UNDERTRAINED if undertrained else NEITHER
    return NEITHER if lost in ("equivalent", "better") else OPEN


def _concluded(dataset: str, found: Sequence[Contrasted], fvu: Fvu, undertrained: bool | None) -> dict[str, Any]:
    here = {(c.method, c.versus): c for c in found if c.dataset == dataset}
    measured = {name: here[c.method, c.than] for name, c in ASKED.items() if (c.method, c.than) in here}
    by_dictionary = _rows_of(dataset, fvu)
    mean = float(np.mean(list(by_dictionary.values())))
    lost, missed = (measured[name].verdict.word if name in measured else None for name in ("lost", "missed"))
    return {
        "dataset": dataset,
        "fvu": mean,
        "fvu_of": by_dictionary,
        "conclusion": conclude(mean, undertrained, lost, missed),
        "contrasts": {name: difference(c) for name, c in measured.items()},
    }


def _beside(name: str, dataset: str, fvu: Mapping[str, float], found: Sequence[Contrasted]) -> dict[str, Any]:
    """Another dictionary on one data set: its error, and its latents against those of the compared one."""
    label = f"{SUMMED.method} [{name}]"
    against = next((c for c in found if (c.dataset, c.method, c.versus) == (dataset, label, SUMMED.method)), None)
    error = _rows_of(dataset, {name: fvu}).get(name)
    return {"name": name, "dataset": dataset, "fvu": error, "latents": against and difference(against)}


def _rows_of(dataset: str, fvu: Fvu) -> dict[str, float]:
    """The error of each dictionary on the rows of a data set; test rows and left-out sources are rows of `train`.

    Two sets put together (a source against an over-refusal set) have none of their own.
    """
    left_out = dataset.startswith(LEFT_OUT)
    if left_out and AGAINST in dataset:
        return {}
    name = "train" if left_out or dataset == IN_DISTRIBUTION else dataset
    return {dictionary: by[name] for dictionary, by in fvu.items() if name in by}


def _undertrained(dictionaries: Sequence[SiteDictionary]) -> bool | None:
    """Return whether the error of any still fell when its training ended; None where no card says."""
    flags = [(s.dictionary.info.get("card") or {}).get("undertrained") for s in dictionaries]
    known = [word for word in flags if word is not None]
    return any(known) if known else None
