"""Speed and size of the calibrators, beside other packages on the same arrays, in one run.

    python benchmarks/calibration.py [--support 20000] [--queries 1000] [--rounds 5] [--json FILE]

Rows are two Gaussians in 576 dimensions (`toys/selective.py`), the width of the default model's state. Times are
medians over rounds in changing order, with the range. Neighbours: 256 of each query, exact, ours by scikit-learn's
products and by faiss (the extra `fast`), which must give the same; reexpress_sdm finds its own in float32; the product
alone is the limit. Then what a calibrator takes to fit and to apply, beside MAPIE, crepes and venn-abers; the time of
one text; the memory of a support; and what prototypes cost in accepted rows.
"""

import argparse
import json
import pickle
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from theodolite.calibration import _neighbours
from theodolite.calibration._neighbours import Neighbours
from theodolite.calibration.certified import Certified
from theodolite.calibration.conformal import Conformal
from theodolite.calibration.sdm import Sdm
from theodolite.calibration.venn_abers import VennAbers
from theodolite.toys.selective import gaussians

D, K = 576, 256
Array = np.ndarray


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--support", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    support = gaussians(options.support, D, seed=0)[0].astype(np.float32)
    queries = gaussians(options.queries, D, seed=1)[0].astype(np.float32)
    found = neighbours(support, queries, options.rounds)
    found |= calibrators(options.rounds) | one_text(options.rounds) | prototypes()
    for name, value in found.items():
        print(f"{name:70s} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def neighbours(support: Array, queries: Array, rounds: int) -> dict[str, str]:
    """Seconds for all queries, by each way; that ours agree is asserted."""
    faiss, scikit = Neighbours(support), _without_faiss(support)
    assert all(np.array_equal(a, b) for a, b in zip(faiss.nearest(queries, K), scikit.nearest(queries, K), strict=True))
    ways: dict[str, Callable[[], Any]] = {
        "the product alone, float32": lambda: queries @ support.T,
        "ours, scikit-learn": lambda: _afresh(scikit, queries),
        "ours, faiss": lambda: _afresh(faiss, queries),
        "faiss alone, float32, not re-ranked": lambda: faiss._search(queries.astype(np.float64), K),
        "reexpress_sdm, float32": _reexpress(support, queries),
    }
    what = f"{K} neighbours of {len(queries):,} queries among {len(support):,} x {D}, s: "
    return {what + name: said for name, said in _timed(ways, rounds).items()}


def _without_faiss(support: Array) -> Neighbours:
    by_faiss, _neighbours.by_faiss = _neighbours.by_faiss, lambda _: None
    try:
        return Neighbours(support)
    finally:
        _neighbours.by_faiss = by_faiss


def _afresh(search: Neighbours, queries: Array) -> Any:
    search._answers.clear()
    return search.nearest(queries, K)


def _reexpress(support: Array, queries: Array) -> Callable[[], Any]:
    from reexpress_sdm.index import ExactL2Index

    index = ExactL2Index(support, device="cpu")
    return lambda: index.search_many(queries, K)


def calibrators(rounds: int) -> dict[str, str]:
    """Seconds to calibrate on 2,000 rows and apply it to 2,000, given a fitted probe."""
    from crepes import WrapClassifier
    from mapie.classification import SplitConformalClassifier
    from venn_abers import VennAbers as TheirVennAbers

    X, y = gaussians(6_000, 64, seed=2)
    probe = FrozenEstimator(LogisticRegression(max_iter=1000).fit(X[:2000], y[:2000]))
    cal, new = slice(2000, 4000), X[4000:]
    part = np.repeat(np.array(["support", "calibrate"], dtype=object), 2000)

    def ours(rule: Any) -> Callable[[], Any]:
        return lambda: rule.fit(X[:4000], y[:4000], part=part).reasons(new)

    def sdm() -> Any:
        _neighbours._supports.clear()  # or it would answer from the last round
        return ours(Sdm(probe))()

    def mapie() -> Any:
        made = SplitConformalClassifier(probe, confidence_level=0.9, prefit=True, conformity_score="lac")
        return made.conformalize(X[cal], y[cal]).predict_set(new)

    def crepes() -> Any:
        made = WrapClassifier(probe)
        made.calibrate(X[cal], y[cal], class_cond=True)
        return made.predict_p(new, smoothing=False)

    def venn_abers() -> Any:
        made = TheirVennAbers()
        made.fit(probe.predict_proba(X[cal]), y[cal])
        return made.predict_proba(probe.predict_proba(new))

    ways = {
        "conformal, ours": ours(Conformal(probe)),
        "conformal, MAPIE": mapie,
        "class-conditional conformal, crepes": crepes,
        "Venn-ABERS, ours": ours(VennAbers(probe)),
        "Venn-ABERS, venn-abers": venn_abers,
        "SDM's region, ours": sdm,
    }
    return {
        f"calibrate on 2,000 rows x 64 and apply to 2,000, s: {n}": said for n, said in _timed(ways, rounds).items()
    }


def one_text(rounds: int) -> dict[str, str]:
    """Milliseconds for one row after fitting, and megabytes of a fitted calibrator by the size of its support."""
    found = {}
    for n in (2_000, 8_000):
        X, y = gaussians(2 * n, D, seed=3)
        rule = Certified(Sdm(), alpha=0.9).fit(X.astype(np.float32), y)
        rows = gaussians(4 * rounds, D, seed=4)[0].astype(np.float32)
        times = [_seconds(partial(rule.reasons, row[None])) * 1000 for row in rows]
        support = len(rule.method_.rows_)
        found[f"one row against {support:,} x {D}, certified q', ms"] = _said(times)
        rule.method_.support_._answers.clear()
        found[f"size of that calibrator, MB ({support * D * 4 / 1e6:.0f} of them one copy of the support)"] = (
            f"{len(pickle.dumps(rule)) / 1e6:.0f}"
        )
    return found


def prototypes() -> dict[str, str]:
    """Share accepted and accuracy of SDM's region with fewer and fewer support rows."""
    X, y = gaussians(20_000, 16, seed=5)
    fresh, labels = gaussians(20_000, 16, seed=6)
    found = {}
    for n in (None, 2_000, 500, 100):
        rule = Sdm(alpha=0.95, prototypes=n).fit(X, y)
        accepted = rule.accept(fresh)
        accuracy = (rule.predict(fresh) == labels)[accepted].mean()
        name = f"prototypes={n}: support rows, share accepted at .95, accuracy of these (20,000 fresh rows)"
        lo, hi = binomtest(int(accepted.sum()), len(fresh)).proportion_ci(method="wilson")
        found[name] = f"{len(rule.rows_):,}, {accepted.mean():.3f} [{lo:.3f}, {hi:.3f}], {accuracy:.4f}"
    return found


def _timed(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, str]:
    """Median and range of each way's seconds, asked in an order that changes from round to round."""
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for name in rng.permutation(list(ways)):
            times[name].append(_seconds(ways[name]))
    return {name: _said(of) for name, of in times.items()}


def _seconds(way: Callable[[], Any]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def _said(times: list[float]) -> str:
    return f"{statistics.median(times):.3f} [{min(times):.3f}, {max(times):.3f}]"


if __name__ == "__main__":
    main()
