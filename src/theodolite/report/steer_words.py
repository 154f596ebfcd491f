"""Words of the pages on control: measures and methods in words, and what several of their sections ask for."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from theodolite.report.blocks import Value, number
from theodolite.report.numbers import signed, span

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


def phrase(method: str) -> str:
    """Write a method's name in words.

    >>> phrase("latent_set"), phrase("lat")
    ('latent set', 'lat')
    """
    return NAMES.get(method, method.replace("_", " "))


def usable(facts: Mapping[str, Any]) -> list[str]:
    """Return the measures on written text whose classifier tells held-out texts of the concept."""
    return [f"effect_{one['name']}" for one in facts["classifiers"] if one["usable"]]


def measures(rows: pd.DataFrame) -> dict[str, str]:
    """Return the measures, in words, that a run has any effect on, such as none on targets that were not given.

    All of them where no strength was matched.

    >>> [*measures(pd.DataFrame({"task": ["steer"], "metric": ["effect_sentence"]}))]
    ['effect_sentence']
    """
    known = set(rows["metric"][rows["task"] == "steer"])
    return {name: words for name, words in METRICS.items() if name in known} or METRICS


def at_first(rows: pd.DataFrame, facts: Mapping[str, Any]) -> Any:
    """Mask of the rows whose method acts at the first site, or at no depth."""
    first = {method: about["site"] for method, about in facts["methods"].items()}
    return rows["site"].fillna("") == rows["method"].map(first).fillna("")


def cell(rows: pd.DataFrame, without: str = "not matched") -> Value:
    """Return the first row's value with its interval, or what stands in the place of a figure that is not there."""
    if rows.empty:
        return number(without)
    one = rows.iloc[0]
    return number(signed(one["value"]), span(one["lo"], one["hi"], sign=True))
