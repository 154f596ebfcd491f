"""Coverage and width of the intervals of a comparison when groups are few or unequal, on planted Gaussian rows.

A pool of rows in groups of given sizes is split by `data.splits` for five seeds; two methods read exchangeable blocks
of columns by the difference in means, so that their true difference is 0. Every group slants the direction between the
classes in its own way, as topics and templates do. The methods are scored on 800 fresh rows of as many groups (a
shift) and on the pool's own test rows (in distribution).

truth   the mean point over all replicates; where a dominant group is trained on always, the mean over fresh other
        groups given that group (closed form for a direction w: Phi(w.m / (|w| sqrt(2 (1 + slant^2 / 4)))))
oracle  an interval of 1.96 times the standard deviation of point - truth over the replicates

    python benchmarks/intervals.py --replicates 1000            # the table of docs/statistics.md
    python benchmarks/intervals.py --replicates 1000 --json     # the same as JSON
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from theodolite.core.metrics import auroc
from theodolite.core.stats import Sample
from theodolite.core.training_sets import TrainingSets
from theodolite.data.splits import dominant, split

Array = np.ndarray
D, SEEDS, SHIFT_ROWS, BOOT = 12, 5, 800, 200
SLANT, STRENGTH = 0.6, 1.2
LAYOUTS: dict[str, list[int]] = {
    "600 single rows": [1] * 600,
    "Zipf, 60 groups": [int(300 / (k + 1)) + 1 for k in range(60)],
    "Pareto, 300 groups up to 25": np.minimum(1 + np.random.default_rng(1).pareto(1.3, 300).astype(int), 25).tolist(),
    "one of 240 and 360 single rows": [240] + [1] * 360,
    "20 groups of 30": [30] * 20,
    "8 groups of 20 to 200": [200, 120, 80, 60, 50, 40, 30, 20],
}


@dataclass(frozen=True)
class Cell:
    """One figure of one layout: share of replicates whose interval holds the truth, and median width over oracle's."""

    layout: str
    scored_on: str
    figure: str
    truth: float
    replicates: int
    printed: float
    covered: float
    low: float
    high: float
    width: float


def centre() -> Array:
    """Half the distance between the classes, per column; the two methods' blocks are alike."""
    m = np.zeros(D)
    m[:4] = STRENGTH * np.array([1, 0.7, 0.5, 0.3])
    return np.r_[m, m]


def rows(rng: np.random.Generator, sizes: Array) -> tuple[Array, Array, Array]:
    """Columns, labels and groups of one draw of the population."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    y = rng.integers(0, 2, len(group))
    slant = SLANT * rng.normal(size=(len(sizes), 2 * D))
    return rng.normal(size=(len(group), 2 * D)) + (y - 0.5)[:, None] * (centre() + slant[group]), y, group


def direction(x: Array, y: Array) -> Array:
    return x[y == 1].mean(0) - x[y == 0].mean(0)


def closed_form(w_kd: Array) -> Array:
    """AUROC of directions (k, D) on fresh rows of as many groups."""
    return norm.cdf(w_kd @ centre()[:D] / (np.linalg.norm(w_kd, axis=1) * np.sqrt(2 * (1 + SLANT**2 / 4))))


def given_dominant(rng: np.random.Generator, x: Array, y: Array, fixed: Array, n: int, draws: int = 200) -> Array:
    """True AUROC of both methods, averaged over n fresh single rows beside the rows that every training set holds."""
    values = []
    for _ in range(draws):
        more, labels, _ = rows(rng, np.ones(n, int))
        w = direction(np.vstack([x[fixed], more]), np.r_[y[fixed], labels])
        values.append(closed_form(w.reshape(2, D)))
    return np.mean(values, axis=0)


def study(layout: str, repeat: int) -> dict[str, tuple[Array, Array]]:
    """By what is scored: (points, lo, hi) of method one and of the difference, and the truth given a dominant group."""
    rng = np.random.default_rng([repeat, *layout.encode()])
    x, y, group = rows(rng, np.array(LAYOUTS[layout]))
    ids = np.array([f"{v:016x}" for v in rng.integers(1 << 60, size=len(y))])
    frame = pd.DataFrame({"hash": ids, "cluster": group, "label": y, "source": "s"})
    parts = [split(frame, 1000 * repeat + seed) for seed in range(SEEDS)]
    train, test, fixed = (
        np.array([p == "train" for p in parts]),
        np.array([p == "test" for p in parts]),
        dominant(frame),
    )
    training = TrainingSets.measured(train, group, y, fixed)
    fresh_x, fresh_y, fresh_group = rows(rng, np.ones(SHIFT_ROWS, int))
    w = [direction(x[t], y[t]) for t in train]
    truth = np.full(2, np.nan)
    if fixed.any():
        truth = given_dominant(rng, x, y, fixed, int((train[0] & ~fixed).sum()))
    scored = {
        "a shift": (fresh_x, fresh_y, fresh_group, np.ones((SEEDS, SHIFT_ROWS), bool)),
        "its own test rows": (x, y, group, test),
    }
    found = {}
    for name, (on, label, groups, asked) in scored.items():
        sample = Sample.of(label, [groups], asked, training=training, n_boot=BOOT, seed=repeat)
        one, other = (np.array([on[:, at] @ v[at] for v in w]) for at in (slice(0, D), slice(D, 2 * D)))
        figures = (sample.estimate(auroc, one).interval(), sample.paired(auroc, one, other).interval(bounded=False))
        found[name] = (np.array([(f.value, f.lo, f.hi) for f in figures]), np.array([truth[0], truth[0] - truth[1]]))
    return found


def cells(layout: str, replicates: int) -> list[Cell]:
    """Coverage of one layout."""
    studies = [study(layout, repeat) for repeat in range(replicates)]
    out = []
    for name in studies[0]:
        point, truth = (np.array([s[name][i] for s in studies]) for i in (0, 1))
        for at, figure in enumerate(("AUROC", "difference")):
            value, lo, hi = point[:, at].T
            given = truth[:, at]
            target = np.where(np.isnan(given), value.mean() if at == 0 else 0.0, given)
            printed = ~np.isnan(lo)
            held = int(((lo <= target) & (target <= hi)).sum())
            n = int(printed.sum())
            exact = binomtest(held, max(n, 1)).proportion_ci()
            oracle = 2 * 1.96 * float((value - target).std())
            width = float(np.median((hi - lo)[printed])) / oracle if n else np.nan
            share = held / n if n else np.nan
            out.append(
                Cell(
                    layout,
                    name,
                    figure,
                    float(target.mean()),
                    replicates,
                    n / replicates,
                    share,
                    float(exact.low),
                    float(exact.high),
                    width,
                )
            )
    return out


def markdown(found: list[Cell]) -> str:
    """Lines of the table in docs/statistics.md."""
    lines = []
    for c in found:
        covered = f"{c.covered:.3f} [{c.low:.3f}, {c.high:.3f}]" if c.printed else "no interval"
        width = f"{c.width:.2f}" if c.printed else ""
        lines.append(f"| {c.layout} | {c.scored_on} | {c.figure} | {c.printed:.0%} | {covered} | {width} |")
    return "\n".join(lines)


def main() -> None:
    """Parse, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--layouts", nargs="*", default=list(LAYOUTS), choices=list(LAYOUTS))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    start = time.process_time()
    if not asked.json:
        print("| groups | scored on | figure | printed | covered | width / oracle |\n|---|---|---|---|---|---|")
    found: list[Cell] = []
    for layout in asked.layouts:
        found += cells(layout, asked.replicates)
        print(f"{layout}: done after {(time.process_time() - start) / 60:.1f} CPU minutes", file=sys.stderr, flush=True)
        if not asked.json:
            print(markdown(found[-4:]), flush=True)
    if asked.json:
        print(json.dumps([asdict(c) for c in found], indent=1))


if __name__ == "__main__":
    main()
