"""Requests put into templates so that wrapping carries no label: each template holds as many of either class."""

import numpy as np
import pandas as pd

from theodolite.core.seeds import generator
from theodolite.data.dataset import Dataset, content_hash
from theodolite.data.matching import likest_pairs
from theodolite.data.templates import CountTokens, fill


def wrap(requests: Dataset, templates: pd.DataFrame, per_request: int, seed: int) -> Dataset:
    """Each matched pair of a positive and a negative request in the same `per_request` templates.

    `templates` has columns `template`, `text` and `tokens`. They are dealt in turn from a seeded order, so that all are
    used about equally often. A row keeps its request's cluster and names it in `request`; the two rows of a pair in one
    template are one unit.
    """
    rng = generator(seed, "wrap")
    found = likest_pairs(requests.frame)
    if not len(found):  # nothing is left, which the check of the classes then says with its causes
        return requests.without(np.ones(len(requests), bool), "no partner of the other class")
    pairs = rng.permutation(np.array(found))
    unpaired = np.setdiff1d(np.arange(len(requests)), pairs)
    requests = requests.replaced(requests.frame.assign(pair=_pair_of_row(pairs, len(requests))))
    paired = requests.without(np.isin(np.arange(len(requests)), unpaired), "no partner of the other class")
    deck = rng.permutation(len(templates))
    deals = min(per_request, len(deck))
    rows = paired.frame.sort_values(["pair", "label"], kind="stable")
    rows = rows.loc[rows.index.repeat(deals)]
    turn = rows["pair"].to_numpy() * deals + np.tile(np.arange(deals), len(paired))
    dealt = templates.iloc[deck[turn % len(deck)]]
    return paired.replaced(_filled(rows.drop(columns="pair"), dealt, turn))


def without_truncated(wrapped: Dataset, count_tokens: CountTokens, max_tokens: int) -> Dataset:
    """The wrapped rows whose request is read to its end; a template of another tokenizer's length may not fit."""
    if not len(wrapped):
        return wrapped
    return wrapped.without(count_tokens(wrapped.texts) > max_tokens, f"longer than {max_tokens} tokens")


def assert_balanced(wrapped: Dataset) -> None:
    """Our law: inside every template half the rows are positive, so that no template says anything about the label."""
    assert (wrapped.frame.groupby("template")["label"].mean() == 0.5).all(), "a template says something about the label"


def _pair_of_row(pairs: np.ndarray, n: int) -> np.ndarray:
    pair = np.full(n, -1)
    pair[pairs[:, 0]] = pair[pairs[:, 1]] = np.arange(len(pairs))
    return pair


def _filled(rows: pd.DataFrame, dealt: pd.DataFrame, turn: np.ndarray) -> pd.DataFrame:
    name = dealt["template"].to_numpy()
    text = [fill(template, request) for template, request in zip(dealt["text"], rows["text"], strict=True)]
    return rows.assign(
        text=text,
        hash=[content_hash(t) for t in text],
        id=rows["request"].to_numpy() + "@" + name,
        template=name,
        template_tokens=dealt["tokens"].to_numpy(),
        unit=[f"turn {t}" for t in turn],
    )
