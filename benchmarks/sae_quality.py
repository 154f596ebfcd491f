"""Held-out FVU at equal L0 after the same rows: our TopK against SAELens and sparsify.

    python benchmarks/rows.py rows.safetensors
    python benchmarks/sae_quality.py rows.safetensors [--width 4096] [--seeds 3] [--json FILE]

Runs in the peers' environment. A seed orders the rows, one pass, the same for everybody, and draws each start. Everyone
runs as recommended: ours as `theodolite train` has it; SAELens with its runner's defaults (lr 3e-4, constant), and with
rows scaled to norm sqrt(d) and a learning rate that falls to 0 over the last fifth; sparsify with its Signum (default)
and with its Adam. These settings were made for longer runs and other batches than 2,048 rows, and ours was chosen on
rows of this very site. So everyone also runs tuned: a quarter of the own learning rate, the own, and 4 and 16 times
that, one fit each, judged on the last 20,000 training rows, which these fits leave out.

Differences are paired by seed, ours minus theirs, each tuned alike; their interval is Student's over seeds. The same
difference of means over seeds has an interval over held-out documents (Bayesian bootstrap). L0 and the share of latents
never active on the held-out rows stand beside. The tuning fits that FILE holds already are not done again: delete it
when code or rows change.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import Contestant, Score, ours, sae_lens, score, sparsify
from safetensors.torch import load_file
from scipy.stats import t as student
from torch import Tensor

from theodolite.core.bootstrap import bootstrap_weights
from theodolite.dictionaries.training.allocator import keep_freed_memory
from theodolite.dictionaries.variants.topk import TopK

K, BATCH, KEPT, TUNING_SEED, TIMES = 32, 2048, 20_000, 99, (0.25, 1.0, 4.0, 16.0)
OURS = "ours topk"
Maker = Callable[[float], Contestant]


def main() -> None:
    """Tune everyone, then train everyone on every seed's stream; print and write after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds: an interval over seeds needs at least 2")
    keep_freed_memory()
    data = load_file(options.rows)
    train_nd, held_nd, document_n = data["train"], data["held_out"], data["document"]
    written: list[dict[str, Any]] = []
    before = json.loads(options.json.read_text()) if options.json and options.json.exists() else []

    def note(**row: Any) -> None:
        written.append({"F": options.width} | row)
        print("  ".join(f"{name} {value:.4g}" if name != "contestant" else value for name, value in row.items()))
        if options.json:
            options.json.write_text(json.dumps(written, indent=1))

    known = {
        (r["contestant"], r["times"]): r["kept_fvu"] for r in before if "kept_fvu" in r and r["F"] == options.width
    }
    best = tuned(train_nd, options.width, known, note)
    scores: dict[tuple[str, bool], list[Score]] = {}
    for seed in range(options.seeds):
        batches = stream(train_nd, seed)
        for name, make in field(batches, options.width, seed).items():
            for times in sorted({1.0, best[name]}):
                found = score(trained(make, times, batches, seed), held_nd)
                for is_tuned, asked in ((False, 1.0), (True, best[name])):  # one fit is both where these are the same
                    if asked == times:
                        scores.setdefault((name, is_tuned), []).append(found)
                fvu = found.fvu(held_nd)
                note(contestant=name, times=times, seed=seed, fvu=fvu, l0=found.l0, unused=found.unused)
    for is_tuned, title in ((False, "as recommended"), (True, f"tuned over {len(TIMES)} learning rates")):
        chosen = {name: found for (name, t), found in scores.items() if t == is_tuned}
        print(f"\n{title}: {table(chosen, held_nd, document_n)}")


def stream(train_nd: Tensor, seed: int) -> tuple[Tensor, ...]:
    """One pass over the rows in this seed's order, in whole batches."""
    order = torch.randperm(len(train_nd), generator=torch.Generator().manual_seed(seed))
    return train_nd[order].split(BATCH)[: len(train_nd) // BATCH]


def trained(make: Maker, times: float, batches: tuple[Tensor, ...], seed: int) -> Contestant:
    """A contestant at so many times its own learning rate, after all batches."""
    torch.manual_seed(seed)
    contestant = make(times)
    for x in batches:
        contestant.step(x)
    return contestant


def tuned(
    train_nd: Tensor, width: int, known: dict[tuple[str, float], float], note: Callable[..., None]
) -> dict[str, float]:
    """For each contestant how many times its own learning rate leaves least error on the rows kept; `known` is done."""
    kept_nd, batches = train_nd[-KEPT:], stream(train_nd[:-KEPT], TUNING_SEED)
    best = {}
    for name, make in field(batches, width, TUNING_SEED).items():
        found = {}
        for times in TIMES:
            if (name, times) in known:
                found[times] = known[name, times]
            else:
                found[times] = score(trained(make, times, batches, TUNING_SEED), kept_nd).fvu(kept_nd)
            note(contestant=name, times=times, kept_fvu=found[times])
        best[name] = min(found, key=lambda times: found[times])
    return best


def field(batches: tuple[Tensor, ...], width: int, seed: int) -> dict[str, Maker]:
    """Everyone, from their own start, at a multiple of their own learning rate."""
    first, steps = batches[0], len(batches)
    d, own = first.shape[1], TopK(first.shape[1], width).peak

    def lens(times: float, **schedule: Any) -> Contestant:
        scaled = {"normalize_activations": "expected_average_only_in"} if schedule else {}
        rate = {"lr": 3e-4 * times, "lr_end": 3e-5 * times}
        return sae_lens("topk", d, width, k=K, batch=BATCH, steps=steps, schedule=rate | schedule, **scaled)

    return {
        OURS: lambda times: ours(TopK(d, width, k=K, lr=own * times, seed=seed, steps=steps), torch.cat(batches[:4])),
        "sae-lens topk": lens,
        "sae-lens topk, scaled, decay": lambda times: lens(times, lr_decay_steps=steps // 5),
        "sparsify, signum": lambda times: sparsify(d, width, K, optimizer="signum", times=times),
        "sparsify, adam": lambda times: sparsify(d, width, K, steps=steps, times=times),
    }


def table(scores: dict[str, list[Score]], held_nd: Tensor, document_n: Tensor) -> str:
    """Means over seeds and paired differences."""
    energy = (held_nd - held_nd.mean(0)).double().square().sum(1).numpy()
    weights = bootstrap_weights(document_n.numpy(), n_boot=1000)
    n_seeds, n_docs = len(scores[OURS]), len(document_n.unique())
    lines = [f"held-out FVU, {len(held_nd)} rows of {n_docs} documents, {n_seeds} seeds, k = {K}"]
    fvus = {name: np.array([s.fvu(held_nd) for s in found]) for name, found in scores.items()}
    mean_errors = {name: np.mean([s.error_n.numpy() for s in found], axis=0) for name, found in scores.items()}
    for name, found in scores.items():
        said = f"{name:30s} {fvus[name].mean():.4f} [{fvus[name].min():.4f}, {fvus[name].max():.4f}]"
        said += f"  L0 {np.mean([s.l0 for s in found]):.1f}  unused {np.mean([s.unused for s in found]):.1%}"
        if name != OURS:
            by_seed = fvus[OURS] - fvus[name]
            half = student.ppf(0.975, n_seeds - 1) * by_seed.std(ddof=1) / n_seeds**0.5
            over_documents = weights @ (mean_errors[OURS] - mean_errors[name]) / (weights @ energy)
            lo, hi = np.quantile(over_documents, [0.025, 0.975])
            said += f"  ours minus theirs {by_seed.mean():+.4f} ± {half:.4f}, over documents [{lo:+.4f}, {hi:+.4f}]"
        lines.append(said)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
