"""What bfloat16 costs a reader: harmful-intent read in float32 and in bfloat16, same splits, same fits.

    python benchmarks/dtype.py

Prints, at the recipe's site, the relative difference of rows; then for dense readers and for readers of the shipped
dictionary's latents, on the mix's own test rows and on two shifts, the correlation of scores between the two and the
difference in AUROC with its standard error over seeds.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from scipy import sparse

from theodolite.core import methods, recipe
from theodolite.core.metrics import auroc
from theodolite.data.concept import Concept
from theodolite.data.splits import split
from theodolite.dictionaries.pooled import pooled_latents
from theodolite.models.model import Model
from theodolite.study.datasets import load_concept
from theodolite.study.subjects import Subjects, open_subjects

METHODS = (
    "difference_in_means",
    "logistic(C=0.01)",
    "ridge(alpha=100.0)",
    "k_sparse(k=64)@latents",
    "logistic@latents",
)
SHIFTS = ("jailbreakbench", "jailbreak-wrapped")
SEEDS = 5


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    wanted = recipe.load("harmful-intent")
    read: dict[str, dict[str, Any]] = {}
    concept = None
    for dtype in ("float32", "bfloat16"):
        start = time.perf_counter()
        subjects = open_subjects(wanted, Model.from_pretrained(wanted.model, dtype=dtype))
        concept = concept or load_concept(wanted, subjects)
        read[dtype] = views(wanted, subjects, texts(concept))
        print(f"{dtype}: {len(texts(concept))} texts in {time.perf_counter() - start:.0f} s")
    full, half = (read[dtype]["state"] for dtype in read)
    error = np.linalg.norm(half - full, axis=1) / np.linalg.norm(full, axis=1)
    print(f"relative difference of rows: median {np.median(error):.4f}, 99th percentile {np.quantile(error, 0.99):.4f}")
    assert concept is not None
    for spec in METHODS:
        compare(spec, concept, {dtype: v[methods.parse(spec).view] for dtype, v in read.items()})


def texts(concept: Concept) -> list[str]:
    """The mix, then the shifts."""
    return [*concept.train.texts, *(text for name in SHIFTS for text in concept.shifts[name].texts)]


def views(wanted: recipe.Recipe, subjects: Subjects, texts: list[str]) -> dict[str, Any]:
    """Rows pooled per text, and the main dictionary's latents encoded per token and pooled."""
    model, site = subjects.model, subjects.model.site(wanted.site)
    how: dict[str, Any] = {"format": wanted.format, "max_tokens": wanted.max_tokens}
    tokens = model.read(texts, site, positions=wanted.positions, pooling=None, **how)[site]
    rows = [(tokens.doc, np.ones(len(tokens), bool), torch.from_numpy(tokens.rows))]
    latents = pooled_latents(subjects.at(wanted.site)[0].dictionary, rows, len(texts), wanted.pooling).latents
    return {"state": tokens.pool(wanted.pooling).rows, "latents": latents}


def compare(spec: str, concept: Concept, X: dict[str, np.ndarray | sparse.csr_matrix]) -> None:
    """One line per data set: how far the two kinds of rows lead to the same scores and the same AUROC."""
    n, frame = len(concept.train), concept.train.frame
    y = frame["label"].to_numpy()
    ends = np.cumsum([n, *(len(concept.shifts[name]) for name in SHIFTS)])
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(SEEDS):
        part = split(frame, seed)
        fitted = {
            t: methods.parse(spec).reader(seed).fit(x[:n][part == "train"], y[part == "train"]) for t, x in X.items()
        }
        places = {"test rows": (np.flatnonzero(part == "test"), y[part == "test"])}
        for name, start, stop in zip(SHIFTS, ends, ends[1:], strict=False):
            places[name] = (np.arange(start, stop), concept.shifts[name].frame["label"].to_numpy())
        for name, (rows, label) in places.items():
            full, half = (fitted[dtype].decision_function(X[dtype][rows]) for dtype in X)
            found.setdefault(name, []).append((np.corrcoef(full, half)[0, 1], auroc(label, half) - auroc(label, full)))
    for name, pairs in found.items():
        correlation, difference = np.mean(pairs, axis=0)
        spread = np.std([d for _, d in pairs], ddof=1) / SEEDS**0.5
        print(
            f"{spec:24} {name:18} correlation of scores {correlation:.5f}, AUROC bfloat16 - float32 {difference:+.4f} "
            f"(s.e. {spread:.4f}, {SEEDS} seeds)"
        )


if __name__ == "__main__":
    main()
