"""Which variant finds the features of rows whose features are known: the ranking of SynthSAEBench at a small size.

    python benchmarks/sae_recovery.py [--rows 4000000] [--seeds 6] [--only topk batch_topk ...] [--json FILE]

The rows (`toys/synthetic_dictionary.py`) are made like those of SynthSAEBench (2602.14687) with 1,024 features in 96
dimensions, of which 4.8 are active in a row; a dictionary has a quarter as many latents, and L0 is near 4 for all, as
many as there are active features among the 256 commonest (a TopK row has fewer where fewer than k are positive).
307,200 rows are drawn once and seen in a new order each time round; every variant learns at its default rate, matching
pursuit also at three times it. Printed: F1, mean |cosine| under one-to-one matching (MCC), distinct best features per
latent, held-out FVU and L0; means over seeds, which draw the start and the order (features and rows stay), with
Student's 95 % interval. Published order of F1: Matryoshka > BatchTopK ≈ JumpReLU > ReLU with L1 > matching pursuit, and
the last has the lowest FVU.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from theodolite.core.seeds import generator
from theodolite.dictionaries.names import parse
from theodolite.dictionaries.recovery import recovery
from theodolite.dictionaries.training.allocator import keep_freed_memory
from theodolite.toys.synthetic_dictionary import SyntheticDictionary

WIDTH, L0, BATCH, POOL, HELD_OUT = 256, 4, 1024, 300 * 1024, 20_000
SPECS = {
    "matryoshka": f"matryoshka(k={L0})",
    "batch_topk": f"batch_topk(k={L0})",
    "topk": f"topk(k={L0})",
    "jumprelu": f"jumprelu(target_l0={L0})",
    "relu": f"relu(target_l0={L0})",
    "gated": f"gated(target_l0={L0})",
    "matching_pursuit": f"matching_pursuit(k={L0})",
    "matching_pursuit at 3e-3": f"matching_pursuit(k={L0}, lr=3e-3)",  # three times its default
}


def main() -> None:
    """Train every variant side by side on each seed's rows, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=list(SPECS), default=list(SPECS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds: an interval over seeds needs at least 2")
    one = partial(one_seed, options.only, options.rows)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = [row for rows in pool.map(one, range(options.seeds)) for row in rows]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(table(found, options.rows))


def one_seed(names: list[str], n_rows: int, seed: int) -> list[dict[str, Any]]:
    """Scores of every variant trained from this seed's start on the rows in this seed's order."""
    keep_freed_memory()
    torch.set_num_threads(1)  # products of 1,024 rows and 256 latents are too small to share; seeds share the cores
    planted = SyntheticDictionary()
    steps, rng = n_rows // BATCH, generator(seed, "order")
    learners = {}
    for name in names:
        spec = parse(SPECS[name])
        learners[name] = spec.cls(planted.d, WIDTH, seed=seed, steps=steps, **spec.params)
    pool, begun = torch.from_numpy(planted.sample(POOL, seed=2)[0]), time.perf_counter()
    for step in range(steps):
        turn = step % (POOL // BATCH)
        if turn == 0:
            order = torch.from_numpy(rng.permutation(POOL))
            print(f"seed {seed}: step {step} of {steps}, {time.perf_counter() - begun:.0f} s", flush=True)
        x = pool[order[turn * BATCH : (turn + 1) * BATCH]]
        for learner in learners.values():
            learner.partial_fit(x)
    x_nd, z_nf = planted.sample(HELD_OUT, seed=1)
    return [score(name, learner, x_nd, z_nf, planted, seed) for name, learner in learners.items()]


def score(
    name: str, learner: Any, x_nd: np.ndarray, z_nf: np.ndarray, planted: SyntheticDictionary, seed: int
) -> dict[str, Any]:
    """One variant's recovery, FVU and L0 on held-out rows."""
    x, dictionary = torch.from_numpy(x_nd), learner.dictionary()
    z = dictionary.encode(x)
    missed = (x - dictionary.decode(z)).square().sum() / (x - x.mean(0)).square().sum()
    scores = recovery(dictionary.W_dec.numpy(), z.numpy(), planted.features_fd, z_nf)
    return {"variant": name, "seed": seed, "fvu": float(missed), "l0": float((z != 0).sum(1).float().mean())} | (
        scores._asdict()
    )


def table(found: list[dict[str, Any]], n_rows: int) -> str:
    """Means over seeds and their intervals, best F1 first."""
    columns = ("f1", "mcc", "uniqueness", "precision", "recall", "fvu", "l0")
    by_name = {name: [row for row in found if row["variant"] == name] for name in {row["variant"] for row in found}}
    seeds = len({row["seed"] for row in found})
    lines = [
        f"{n_rows:,} rows, {WIDTH} latents, {seeds} seeds, {HELD_OUT:,} held-out rows",
        f"{'':17s}" + "".join(f"{column:>22s}" for column in columns),
    ]
    for name in sorted(by_name, key=lambda name: -np.mean([row["f1"] for row in by_name[name]])):
        values = [np.array([row[column] for row in by_name[name]]) for column in columns]
        half = [student.ppf(0.975, seeds - 1) * v.std(ddof=1) / seeds**0.5 for v in values]
        cells = [f"{v.mean():.3f} ± {h:.3f}" for v, h in zip(values, half, strict=True)]
        lines.append(f"{name:17s}" + "".join(f"{cell:>22s}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
