"""How often does a certificate fail? Replicates on synthetic rows, whose true accuracies many fresh rows give.

    python benchmarks/coverage_rates.py [--replicates 500] [--rows 1600] [--fresh 100000] [--json FILE]

Each replicate draws rows (`toys/selective.py`: two Gaussians, or the same with two pockets in which a probe is sure and
wrong; 8 dimensions), fits (SDM looks at 64 neighbours), and is in violation if one of the four conditional accuracies
of what it accepts, on the fresh rows, is below alpha. A certificate fails the study if the lower end of the 95 %
Clopper-Pearson interval of its violations exceeds delta. The published high-reliability region of SDM promises no rate;
its own stands beside. Rows are independent and nothing is chosen but the threshold: groups, and the choice among maps
on calibration rows, are not part of the study.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from threadpoolctl import threadpool_limits

from theodolite.calibration.certified import Certified
from theodolite.calibration.knn_agreement import KnnAgreement
from theodolite.calibration.knn_distance import KnnDistance
from theodolite.calibration.max_softmax import MaxSoftmax
from theodolite.calibration.sdm import Sdm
from theodolite.toys.selective import gaussians, pocket

ALPHA, DELTA, D = 0.95, 0.1, 8
AT_A_TIME = 4_000  # fresh rows
DATA = {"gaussians": gaussians, "pockets": pocket}
Q_PRIME, REGION = "certified q'", "SDM's region"
RULES = {
    Q_PRIME: lambda: Certified(Sdm(alpha=ALPHA, k=64), alpha=ALPHA, delta=DELTA),
    "certified maximum softmax": lambda: Certified(MaxSoftmax(), alpha=ALPHA, delta=DELTA),
    "certified distance": lambda: Certified(KnnDistance(), alpha=ALPHA, delta=DELTA),
    "certified agreement": lambda: Certified(KnnAgreement(), alpha=ALPHA, delta=DELTA),
    "maximum softmax >= alpha": lambda: MaxSoftmax(alpha=ALPHA),
}


def main() -> None:
    """Run all replicates, two processes side by side, and print one line per data set and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--fresh", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    one = partial(replicate, options.rows, options.fresh)
    found = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for done, rows in enumerate(pool.map(one, range(options.replicates), chunksize=4), start=1):
            found += rows
            if done % 20 == 0:
                print(f"{done} of {options.replicates} replicates", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(table(found))


def replicate(n: int, n_fresh: int, seed: int) -> list[dict[str, Any]]:
    """Every method on one draw of every data set: the share accepted, and the least of the four true accuracies."""
    with threadpool_limits(1):
        return [row for name, draw in DATA.items() for row in measured(name, draw, n, n_fresh, seed)]


def measured(data: str, draw: Any, n: int, n_fresh: int, seed: int) -> list[dict[str, Any]]:
    rows, labels = draw(n, D, 2 * seed)
    rules: dict[str, Any] = {n: make().set_params(seed=seed).fit(rows, labels) for n, make in RULES.items()}
    rules[REGION] = rules[Q_PRIME].method_  # the same support and calibration rows
    X, y = draw(n_fresh, D, 2 * seed + 1)
    decisions: dict[str, list[np.ndarray]] = {name: [] for name in rules}
    for start in range(0, n_fresh, AT_A_TIME):  # rules that share a support share its answers
        some = X[start : start + AT_A_TIME]
        for name, rule in rules.items():
            decisions[name].append(np.stack([rule.accept(some), rule.predict(some)]))
    return [{"data": data, "method": name, "seed": seed} | truth(*np.hstack(of), y) for name, of in decisions.items()]


def truth(accepted: np.ndarray, predicted: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Share accepted and the least accuracy within a class or a prediction."""
    cells = [(accepted == 1) & (of == c) for of in (y, predicted) for c in (0, 1)]
    right = [float((predicted == y)[cell].mean()) for cell in cells if cell.any()]
    return {"accepted": float(accepted.mean()), "least": min(right, default=None)}


def table(found: list[dict[str, Any]]) -> str:
    """A replicate that accepts nothing violates nothing."""
    lines = [f"{'':37s} {'violations':>32s} {'accepts':>7s} {'accepted':>9s} {'least accuracy':>15s}"]
    for data in DATA:
        for name in (*RULES, REGION):
            rows = [r for r in found if r["data"] == data and r["method"] == name]
            some = [r for r in rows if r["least"] is not None]
            wrong = sum(r["least"] < ALPHA for r in some)
            lo, hi = binomtest(wrong, len(rows)).proportion_ci(0.95)
            verdict = "" if not name.startswith("certified") else "fails" if lo > DELTA else "not refuted"
            share, least = np.mean([r["accepted"] for r in rows]), [r["least"] for r in some]
            accuracy = f"{np.median(least):.3f}" if least else "-"
            lines.append(
                f"{data:10s} {name:26s} {wrong / len(rows):7.3f} [{lo:.3f}, {hi:.3f}] {verdict:12s}"
                f"{len(some) / len(rows):6.2f} {share:9.2f} {accuracy:>15s}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
