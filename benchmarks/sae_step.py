"""One training step of each library's dictionaries, in turns, from shared weights, on real activations.

    python benchmarks/rows.py rows.safetensors
    python benchmarks/sae_step.py rows.safetensors [--widths 8192 16384] [--allocators default tuned] [--rounds 12]
        [--only topk,...] [--json FILE]

Runs in the peers' environment. Every pair of width and allocator is a process of its own: "tuned" keeps freed memory
(the three MALLOC_ variables) *for everybody*. Rows are brought to unit mean square distance from their median. Our TopK
takes 50 steps from random weights; all TopK contestants start from these weights with fresh optimisers, each with its
library's own step, learning rate (ours 3e-4), clipping and dead counters, AuxK idle. BatchTopK and Matryoshka start
there too; JumpReLU from the same weights with the threshold that makes 64 latents active, and stays there. Each round
gives every contestant the same new batch, in an order drawn anew. A ratio is the median over rounds of the contestant's
time over ours, its interval that of order statistics (95 % or more, over the rounds of one process); a bar counts when
the whole interval lies beyond it. Then AuxK is forced for 6 rounds: a tenth of the latents dead.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import Contestant, Weights, dictionary_learning, ours, sae_lens, score, sparsify
from safetensors.torch import load_file
from scipy.stats import binom
from torch import Tensor

from theodolite.dictionaries.ops.preselect import multiplies_bfloat16
from theodolite.dictionaries.training.learner import geometric_median
from theodolite.dictionaries.variants.batch_topk import BatchTopK
from theodolite.dictionaries.variants.jumprelu import JumpReLU
from theodolite.dictionaries.variants.matryoshka import Matryoshka
from theodolite.dictionaries.variants.topk import TopK

K, L0, BATCH, WARM_UP, DEAD, FORCED = 32, 64, 4096, 50, 0.1, 6
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "17179869184",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
# contestant: (ours, the least ratio at 16,384 latents with the tuned allocator)
BARS = {
    "sparsify": ("ours topk", 2.0),
    "dictionary_learning": ("ours topk", 9.0),
    "sae-lens topk": ("ours topk", 11.0),
    "sae-lens topk bf16": ("ours topk", 5.0),
    "sae-lens topk sparse": ("ours topk", None),
    "sae-lens batchtopk": ("ours batch_topk", 4.0),
    "sae-lens matryoshka": ("ours matryoshka", 4.0),
    "sae-lens jumprelu": ("ours jumprelu", 3.0),
    "gemm_bf16": ("ours topk", 1 / 1.8),
    "gemm_fp32": ("ours topk", None),
}


def main() -> None:
    """Run every pair of width and allocator in a process of its own, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[8192, 16384])
    parser.add_argument("--allocators", nargs="+", choices=["default", "tuned"], default=["default", "tuned"])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="contestants whose names contain one of these, and ours")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        options.one.write_text(json.dumps(one(options)))
        return
    rows: list[dict[str, Any]] = []
    for width in options.widths:
        for allocator in options.allocators:
            rows += apart(width, allocator, options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def apart(width: int, allocator: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one width and allocator, printed, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, __file__, options.rows, "--widths", width, "--allocators", allocator]
        command += ["--rounds", options.rounds, "--threads", options.threads, "--only", options.only, "--one", out]
        environment = os.environ | (TUNED if allocator == "tuned" else {})
        subprocess.run([str(part) for part in command], check=True, env=environment)
        rows: list[dict[str, Any]] = json.loads(out.read_text())
    print(f"\n{width} latents, {allocator} allocator, {options.threads} threads, {options.rounds} rounds")
    print(f"{'contestant':28s} {'ms':>7s} {'range':>15s} {'fvu':>7s} {'l0':>6s}  {'times ours':>24s}")
    for row in rows:
        ratio = "" if row["ratio"] is None else "{ratio:8.2f} [{ratio_lo:.2f}, {ratio_hi:.2f}]".format(**row)
        quality = "" if row["fvu"] is None else f"{row['fvu']:.4f} {row['l0']:6.1f}"
        bar = "" if row["bar"] is None else f"  bar {row['bar']:.2f}: {'reached' if row['reached'] else 'missed'}"
        span = "{ms_lo:.0f}-{ms_hi:.0f}".format(**row)
        print(f"{row['contestant']:28s} {row['ms']:7.0f} {span:>15s} {quality:>14s}  {ratio:>24s}{bar}", flush=True)
    return rows


def one(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Times at one width, in this process."""
    torch.set_num_threads(options.threads)
    width, allocator = options.widths[0], options.allocators[0]
    train_nd, held_nd = scaled(*(load_file(options.rows)[name] for name in ("train", "held_out")))
    batches = [train_nd[i : i + BATCH] for i in range(0, len(train_nd) - BATCH + 1, BATCH)]
    contestants, products = field(width, batches, options.only)
    rounds = [batches[(WARM_UP + i) % len(batches)] for i in range(options.rounds + 2)]
    names = {name: name for name in contestants} | {name: name for name in products}
    times = race({name: c.step for name, c in contestants.items()} | products, rounds)
    held_nd = held_nd[:8192]
    scores = {name: score(c, held_nd) for name, c in contestants.items()}
    forced = {name: c for name, c in contestants.items() if "jumprelu" not in name}
    dead = torch.rand(width, generator=torch.Generator().manual_seed(1)) < DEAD
    times |= race({f"{name} auxk": revived(c, dead) for name, c in forced.items()}, rounds[: FORCED + 2])
    names |= {f"{name} auxk": name for name in forced}
    bars = width == 16384 and allocator == "tuned"
    return [
        {"contestant": name, "F": width, "allocator": allocator, "threads": options.threads, "n": len(times[name])}
        | ({"fvu": scores[name].fvu(held_nd), "l0": scores[name].l0} if name in scores else {"fvu": None, "l0": None})
        | row(times, name, names[name], bars)
        for name in times
    ]


def field(width: int, batches: list[Tensor], only: str) -> tuple[dict[str, Contestant], dict[str, Callable[..., Any]]]:
    """Everyone, from shared weights; and the products that none can do without."""
    d, first = batches[0].shape[1], batches[0]
    weights = warmed_up(width, batches)
    shared: dict[str, Any] = {"batch": BATCH, "weights": weights}
    levels = {"matryoshka_widths": [width // 16, width // 8, width // 4, width // 2, width]}
    # a threshold at which 64 latents are active, and a learning rate that keeps it there: the work depends on L0
    jump = weights | {"threshold": torch.full((width,), level(weights, first, L0))}
    makers: dict[str, Callable[[], Contestant]] = {
        "ours topk": lambda: ours(TopK(d, width, k=K, dead_after=10**7, lr=3e-4), first, weights),
        "sparsify": lambda: sparsify(d, width, K, weights=weights, aux=1 / 32),
        "dictionary_learning": lambda: dictionary_learning(d, width, K, weights=weights),
        "sae-lens topk": lambda: sae_lens("topk", d, width, k=K, **shared),
        "sae-lens topk bf16": lambda: sae_lens("topk", d, width, k=K, autocast=True, **shared),
        "sae-lens topk sparse": lambda: sae_lens(
            "topk", d, width, k=K, use_sparse_activations=True, rescale_acts_by_decoder_norm=False, **shared
        ),
        "ours batch_topk": lambda: ours(BatchTopK(d, width, k=K, dead_after=10**7, lr=3e-4), first, weights),
        "sae-lens batchtopk": lambda: sae_lens("batchtopk", d, width, k=K, **shared),
        "ours matryoshka": lambda: ours(Matryoshka(d, width, k=K, dead_after=10**7, lr=3e-4), first, weights),
        "sae-lens matryoshka": lambda: sae_lens("matryoshka_batchtopk", d, width, k=K, **levels, **shared),
        "ours jumprelu": lambda: ours(JumpReLU(d, width, target_l0=L0, dead_after=10**7, lr=1e-7), first, jump),
        "sae-lens jumprelu": lambda: sae_lens(
            "jumprelu",
            d,
            width,
            batch=BATCH,
            weights=jump,
            jumprelu_sparsity_loss_mode="quadratic",
            target_l0=L0,
            jumprelu_bandwidth=1e-3,
            schedule={"lr": 1e-7},
        ),
    }
    wanted = [name for name in makers if not only or name.startswith("ours") or any(o in name for o in only.split(","))]
    if not multiplies_bfloat16():
        print("this processor has no bfloat16 instructions: contestants that need them are left out")
        wanted = [name for name in wanted if not name.endswith("bf16")]
    W_fd, out = weights["W_enc"], torch.empty(BATCH, width)
    products: dict[str, Callable[..., Any]] = {"gemm_fp32": lambda x: torch.mm(x, W_fd.T, out=out)}
    if multiplies_bfloat16():
        W_16, out_16 = W_fd.bfloat16(), out.bfloat16()
        x_16 = first.bfloat16()
        products["gemm_bf16"] = lambda x: torch.mm(x_16, W_16.T, out=out_16)
    return {name: makers[name]() for name in wanted}, products


def scaled(train_nd: Tensor, held_nd: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with unit mean square distance from the geometric median of the first ones, which becomes the origin."""
    median = geometric_median(train_nd[:8192])
    spread = float((train_nd[:8192].double() - median).square().sum(1).mean())
    train, held = (((x.double() - median) * spread**-0.5).float() for x in (train_nd, held_nd))
    return train, held


def warmed_up(width: int, batches: list[Tensor]) -> Weights:
    """Weights after 50 steps of our TopK."""
    learner = TopK(batches[0].shape[1], width, k=K, dead_after=10**7, lr=1e-3)
    learner.start(batches[0])
    learner.scales_ = (1.0,)
    for x in batches[:WARM_UP]:
        learner.partial_fit(x)
    return {name: value.clone() for name, value in learner.parameters_.items()}


def level(w: Weights, x_nd: Tensor, l0: int) -> float:
    """The threshold that so many latents per row exceed."""
    pre = torch.addmm(w["b_enc"], x_nd[:256] - w["b_dec"], w["W_enc"].T)
    return float(pre.flatten().topk(l0 * len(pre)).values[-1])


def race(steps: dict[str, Callable[[Tensor], object]], rounds: list[Tensor]) -> dict[str, list[float]]:
    """Milliseconds of each contestant in each round but the first two; every round has an order of its own."""
    order = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for x in rounds:
        for name in order.permutation(list(steps)):
            step = steps[name]
            begun = time.perf_counter()
            step(x)
            times[name].append(1e3 * (time.perf_counter() - begun))
    return {name: ms[2:] for name, ms in times.items()}


def revived(c: Contestant, dead: Tensor) -> Callable[[Tensor], object]:
    """The step with these latents marked dead before it."""

    def step(x_nd: Tensor) -> None:
        c.kill(dead)
        c.step(x_nd)

    return step


def row(times: dict[str, list[float]], name: str, plain: str, bars: bool) -> dict[str, Any]:
    """Medians, ranges, and the ratio to ours of the same variant."""
    ms = times[name]
    found: dict[str, Any] = {"ms": float(np.median(ms)), "ms_lo": min(ms), "ms_hi": max(ms)}
    found |= dict.fromkeys(("ratio", "ratio_lo", "ratio_hi", "bar", "reached"))
    if plain not in BARS:
        return found
    reference, bar = BARS[plain]
    reference += name.removeprefix(plain)
    ratio, lo, hi = median_interval(np.array(ms) / np.array(times[reference]))
    found |= {"ratio": ratio, "ratio_lo": lo, "ratio_hi": hi}
    if bars and bar is not None and name == plain:
        found |= {"bar": bar, "reached": lo >= bar}
    return found


def median_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """The median and the order statistics that enclose it with at least this probability; 6 values are the fewest."""
    ordered, n = np.sort(values), len(values)
    cut = next(r for r in range(n // 2, 0, -1) if 1 - 2 * binom.cdf(r - 1, n, 0.5) >= level)
    return float(np.median(ordered)), float(ordered[cut - 1]), float(ordered[n - cut])


if __name__ == "__main__":
    main()
