"""Coverage of the audit's text baselines fitted on the rows they are scored on, by grouped cross-validation.

Texts are 12 words drawn by Zipf's law from 300; `tell` tilts the words of label 1. Truth: the mean AUROC, on 4,000
fresh rows, of fits on four fifths of as many fresh rows (.5 where the words tell nothing).

    python benchmarks/text_baselines.py            # the table of docs/statistics.md
"""

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from theodolite.core.metrics import auroc
from theodolite.data.text_baselines import FEATURES, text_baselines

WORDS = np.array([f"w{i}" for i in range(300)])
ZIPF = 1 / np.arange(1, 301) / (1 / np.arange(1, 301)).sum()
FRESH, FITS = 4000, 48
WORLDS = [(200, 0.0), (200, 0.4), (200, 1.0), (600, 0.4)]


@dataclass(frozen=True)
class Cell:
    """Share of replicates whose interval holds the truth, with its exact 95 % interval; error: over real spread."""

    feature: str
    rows: int
    tell: float
    truth: float
    covered: float
    low: float
    high: float
    error: float


def texts(n: int, tell: float, rng: np.random.Generator) -> pd.DataFrame:
    label = rng.integers(0, 2, n)
    tilted = ZIPF * np.exp(tell * np.sin(7.0 * np.arange(300)))
    shares = [ZIPF, tilted / tilted.sum()]
    return pd.DataFrame(
        {
            "text": [" ".join(rng.choice(WORDS, 12, p=shares[one])) for one in label],
            "label": label,
            "cluster": np.arange(n),
            "template": "",
            "source": "toy",
            "hash": [str(i) for i in range(n)],
        }
    )


def truth(feature: str, rows: int, tell: float, rng: np.random.Generator) -> float:
    if tell == 0:
        return 0.5
    fresh, found = texts(FRESH, tell, rng), []
    for _ in range(FITS):
        train = texts(rows * 4 // 5, tell, rng)
        fitted = FEATURES[feature]().fit(train["text"], train["label"])
        found.append(auroc(fresh["label"].to_numpy(), fitted.decision_function(fresh["text"])))
    return float(np.mean(found))


def cells(rows: int, tell: float, replicates: int) -> list[Cell]:
    """One per classifier, all on the same draws."""
    rng = np.random.default_rng([rows, int(10 * tell)])
    known = {feature: truth(feature, rows, tell, rng) for feature in FEATURES}
    drawn = [text_baselines(texts(rows, tell, rng), {}, replicate) for replicate in range(replicates)]
    found = []
    for feature, target in known.items():
        value, lo, hi = np.array([(r.auroc, r.lo, r.hi) for draw in drawn for r in draw if r.feature == feature]).T
        held = int(((lo <= target) & (target <= hi)).sum())
        exact = binomtest(held, replicates).proportion_ci()
        error = float(np.median(hi - lo) / (2 * 1.96) / value.std())
        found.append(Cell(feature, rows, tell, target, held / replicates, exact.low, exact.high, error))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=200)
    replicates = parser.parse_args().replicates
    print("| classifier | rows | true AUROC | covered | standard error over spread |\n|---|---|---|---|---|")
    for rows, tell in WORLDS:
        for c in cells(rows, tell, replicates):
            covered = f"{c.covered:.3f} [{c.low:.3f}, {c.high:.3f}]"
            print(f"| {c.feature} | {c.rows} | {c.truth:.3f} | {covered} | {c.error:.2f} |", flush=True)


if __name__ == "__main__":
    main()
