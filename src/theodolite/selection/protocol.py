"""The primary analysis of selective prediction, fixed before any run, and what a run of it needs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from theodolite.calibration.certified import needed
from theodolite.core.calibrator import FEWEST
from theodolite.core.errors import UserError
from theodolite.core.methods import parse
from theodolite.core.recipe import Recipe
from theodolite.data.splits import PARTS, SHARES, one_of_each_cluster, split
from theodolite.study.views import FROM_DICTIONARY, Views

# These readers, at this level, each with a feature space and a gated confidence chosen on calibration rows and
# certified once. Every other rule is exploratory.
READERS = ("logistic", "k_sparse@latents", "lat")
ALPHA, DELTA = 0.9, 0.1
# Readers beside the primary ones, in two spaces to save time.
BESIDE = ("difference_in_means", "word_ngrams")
BESIDE_SPACES = ("state", "pls")


@dataclass(frozen=True)
class SelectionCase:
    """One reader and one training set. n_readers: number of primary readers, whose certificates share delta."""

    reader: str
    seed: int
    site: str
    blocks: tuple[str, ...]
    alphas: tuple[float, ...]
    n_readers: int

    @property
    def level(self) -> float:
        """Accuracy of the primary analysis."""
        return primary_level(self.alphas)

    def delta(self, alpha: float) -> float:
        """Failure probability of this reader's certificate at this accuracy."""
        return DELTA / _sharing(alpha, self.alphas, self.n_readers)


def selective_readers(recipe: Recipe, has_dictionary: bool) -> list[str]:
    """Return the recipe's methods that get selection rules: the primary ones, then those beside."""
    return [
        reader
        for reader in (*READERS, *BESIDE)
        if reader in recipe.methods and (has_dictionary or parse(reader).view not in FROM_DICTIONARY)
    ]


def require_enough(recipe: Recipe, train: pd.DataFrame, has_dictionary: bool) -> None:
    """Raise UserError, before the model reads any row, without a reader to select for or rows to calibrate on."""
    if not selective_readers(recipe, has_dictionary):
        raise UserError(
            f"--admit selects predictions of {', '.join((*READERS, *BESIDE))}, and none of them can be fitted here: "
            "add one with --method, or leave out --admit"
        )
    for seed in range(recipe.seeds):
        label_n = train["label"].to_numpy()
        left = np.bincount(label_n[split(train, seed) == "calibrate"], minlength=2)
        rarer = int(left.argmin())
        if left[rarer] < FEWEST:
            share = SHARES[PARTS.index("calibrate")]
            raise UserError(
                f"--admit needs {FEWEST} rows of each class to calibrate on, and training set {seed} leaves "
                f"{left[rarer]} of the {(label_n == rarer).sum()} of label {rarer}: give at least "
                f"{math.ceil(FEWEST / share)} rows of each class, or leave out --admit"
            )


@dataclass(frozen=True)
class CertificateNeed:
    """Rows that the certificates of one accuracy need, and the certify rows that there are.

    delta: failure probability of each certificate. needed: rows without an error in every cell. fewest, most: certify
    rows of the rarer class, over training sets.
    """

    alpha: float
    delta: float
    needed: int
    fewest: int
    most: int


def certificate_needs(recipe: Recipe, train: pd.DataFrame, has_dictionary: bool) -> Iterator[CertificateNeed]:
    """Yield the need of each level of a recipe, known before the model reads any row."""
    n_readers = sum(r in READERS for r in selective_readers(recipe, has_dictionary))
    there = [_rarer(train, seed) for seed in range(recipe.seeds)]
    for alpha in recipe.admit:
        delta = DELTA / _sharing(alpha, recipe.admit, n_readers)
        yield CertificateNeed(alpha, delta, needed(alpha, delta), min(there), max(there))


def _rarer(train: pd.DataFrame, seed: int) -> int:
    """Return the number of certify rows of the rarer class in one training set."""
    rows = one_of_each_cluster(train, np.flatnonzero(split(train, seed) == "certify"))
    return int(np.bincount(train["label"].to_numpy()[rows], minlength=2).min())


def _sharing(alpha: float, alphas: Sequence[float], n_readers: int) -> int:
    """Return how many certificates share DELTA: the readers' at the primary level, or theirs at all other levels."""
    level = primary_level(alphas)
    return max(n_readers, 1) * (1 if alpha == level else len(set(alphas) - {level}))


def primary_level(alphas: Sequence[float]) -> float:
    """Return the accuracy of the primary analysis: the fixed one if it is asked for, else the highest."""
    return ALPHA if ALPHA in alphas else max(alphas)


def cases(recipe: Recipe, views: Views, blocks: Sequence[str]) -> list[SelectionCase]:
    """Return every primary reader of the run, then those beside, each with every training set."""
    there = selective_readers(recipe, views.has("latents", recipe.site))
    n_primary = sum(r in READERS for r in there)
    seen = tuple(b for b in dict.fromkeys([*blocks, recipe.site]) if views.has("state", b))
    return [
        SelectionCase(reader, seed, recipe.site, seen, tuple(recipe.admit), n_primary)
        for reader in there
        for seed in range(recipe.seeds)
    ]
