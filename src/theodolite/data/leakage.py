"""Shift rows that training has already seen, nearly word for word: found against every text the methods learn from.

A near-copy of a training row with the *same* label is a leak. One with the other label ("is in" against "is not in") is
what such a set is made to test, and stays unless the recipe's `leaks` says otherwise; either way it is counted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat

import numpy as np

from theodolite.core.recipe import LeakRule
from theodolite.core.tick import Tell, silent, told
from theodolite.data.dataset import Count, Dataset
from theodolite.data.near_duplicates import THRESHOLD, gram_counts, near_pairs, unit_rows

NEAR_TRAINING, NEAR_FEW_SHOT, NEAR_DICTIONARY = "near a training row", "near a few-shot prompt", "near dictionary text"
OTHER_LABEL = " of the other label"  # ends the cause of a near-copy whose original has another label
_BLOCK = 2000  # seen texts held as vectors at a time
_TIE = 1e-4  # cosines are sums of float32
_ANY = -1  # the label of a text that has none: it is a copy whatever the row's label


@dataclass(frozen=True)
class Seen:
    """Texts that methods or dictionaries learn from; `labels` is empty where they have none."""

    cause: str
    texts: Iterable[str]
    labels: Sequence[int] = ()


def without_leaks(
    shifts: Mapping[str, Dataset],
    seen: Sequence[Seen],
    idf: np.ndarray,
    rule: LeakRule = "drop-same",
    form: Callable[[Sequence[str]], list[str]] = list,
    tell: Tell = silent,
) -> dict[str, Dataset]:
    """The shifts less the near-duplicates of what was seen that `rule` drops, counted by cause.

    What stays although it is near carries its cause in the column `near` ("" for the others). A row with several
    causes is counted under the first; of texts of both labels the nearest decides ("is not in Peru" is nearer to "is in
    Peru" than to "is in Chile"), and the same label where both are as near. form: what of each text is compared, for
    rows and for seen texts alike.
    """
    left = {name: _with_near(dataset) for name, dataset in shifts.items()}
    if not shifts:
        return {}
    texts = form([text for dataset in shifts.values() for text in dataset.texts])
    y = np.concatenate([dataset.y for dataset in shifts.values()])
    ends = np.cumsum([len(dataset) for dataset in shifts.values()])[:-1]
    for each in seen:
        counted_off = replace(each, texts=told(each.texts, f"looking for rows {each.cause}", tell))
        same, other = _same_and_other(texts, y, counted_off, idf, form)
        for cause, bad in ((each.cause, same), (each.cause + OTHER_LABEL, other)):
            drops = rule == "drop-all" or (rule == "drop-same" and bad is same)
            for (name, dataset), rows in zip(shifts.items(), np.split(bad, ends), strict=True):
                marked = left[name].frame["id"].isin(dataset.frame["id"][rows]).to_numpy()
                left[name] = left[name].without(marked, cause) if drops else _marked(left[name], marked, cause)
    return left


def counted(dataset: Dataset) -> Dataset:
    """The data set without the column `near`; how many rows stayed although they are near something, under `kept`."""
    causes = dataset.frame["near"]
    kept = [Count(dataset.name, str(cause), int(n)) for cause, n in causes[causes != ""].value_counts().items()]
    return dataset.replaced(dataset.frame.drop(columns="near")).keeping(sorted(kept, key=lambda count: count.cause))


def leaks(
    texts: Sequence[str], seen: Mapping[str, Iterable[str]], idf: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, np.ndarray]:
    """Return, for each cause, which of `texts` have a near-duplicate (cosine >= threshold) among its texts, of any
    label.

    Each iterable is read once, block by block, so that a corpus need not fit in memory as vectors. `idf` weighs the
    4-grams and is the same for all causes.
    """
    return {
        cause: _nearest_by_label(texts, Seen(cause, references), idf, list, threshold)[_ANY] > 0
        for cause, references in seen.items()
    }


def _same_and_other(
    texts: Sequence[str], y: np.ndarray, seen: Seen, idf: np.ndarray, form: Callable[[Sequence[str]], list[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are near copies of a text of their label (or of none), and which of one of the other."""
    nearest = _nearest_by_label(texts, seen, idf, form)
    own, other = np.where(y == 1, nearest[1], nearest[0]), np.where(y == 1, nearest[0], nearest[1])
    same = np.maximum(nearest[_ANY], own)
    return (same > 0) & (same >= other - _TIE), other > same + _TIE


def _nearest_by_label(
    texts: Sequence[str],
    seen: Seen,
    idf: np.ndarray,
    form: Callable[[Sequence[str]], list[str]],
    threshold: float = THRESHOLD,
) -> dict[int, np.ndarray]:
    """Cosine of each text with the nearest seen text without a label (-1), of label 0 and of 1; 0 below threshold."""
    queries = unit_rows(gram_counts(texts), idf)
    nearest = {label: np.zeros(len(texts)) for label in (_ANY, 0, 1)}
    for block in _blocks(zip(seen.texts, chain(seen.labels, repeat(_ANY)), strict=False)):
        label = np.array([label for _, label in block])
        references = unit_rows(gram_counts(form([text for text, _ in block])), idf)
        for i, j, cosine in near_pairs(queries, references, threshold):
            for value, best in nearest.items():
                at = label[j] == value
                np.maximum.at(best, i[at], cosine[at])
    return nearest


def _blocks(pairs: Iterable[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    stream = iter(pairs)
    while block := list(islice(stream, _BLOCK)):
        yield block


def _with_near(dataset: Dataset) -> Dataset:
    return dataset if "near" in dataset.frame else dataset.replaced(dataset.frame.assign(near=""))


def _marked(dataset: Dataset, rows: np.ndarray, cause: str) -> Dataset:
    near = dataset.frame["near"]
    return dataset.replaced(dataset.frame.assign(near=near.mask(rows & (near == "").to_numpy(), cause)))
