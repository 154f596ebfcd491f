"""Positive and negative rows made comparable: paired by likeness, or equal in length."""

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from theodolite.core.seeds import generator
from theodolite.data.near_duplicates import gram_counts, inverse_frequency, unit_rows

LENGTH_BIN = 4  # characters: lengths within one bin count as equal


def likest_pairs(frame: pd.DataFrame) -> list[tuple[int, int]]:
    """(row of a positive, row of a negative), each row at most once, with the greatest total 4-gram cosine.

    JailbreakBench wrote a benign counterpart on the topic of each harmful request, but its carrier lost the pairing;
    this finds it again. What is left over of the larger class is unpaired.
    """
    positive, negative = (np.flatnonzero(frame["label"] == label) for label in (1, 0))
    counts = gram_counts(frame["text"].tolist())
    rows = unit_rows(counts, inverse_frequency(counts))
    cosine = (rows[positive] @ rows[negative].T).toarray()
    i, j = linear_sum_assignment(cosine, maximize=True)
    return list(zip(positive[i].tolist(), negative[j].tolist(), strict=True))


def length_matched(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rows left when every bin of text length keeps as many positives as negatives, in their order."""
    rng = generator(seed, "length-matched")
    length = frame["text"].str.len() // LENGTH_BIN
    kept: list[int] = []
    for _, rows in frame.groupby(length, sort=True):
        classes = [rows.index[rows["label"] == label].to_numpy() for label in (0, 1)]
        n = min(map(len, classes))
        kept.extend(i for members in classes for i in rng.choice(members, n, replace=False))
    return frame.loc[sorted(kept)].reset_index(drop=True)
