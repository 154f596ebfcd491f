"""Held-out FVU at equal L0 after the same rows: our TopK against SAELens and sparsify with their recommended settings.

    python benchmarks/rows.py rows.safetensors
    python benchmarks/sae_quality.py rows.safetensors [--width 4096] [--seeds 3] [--json FILE]

Runs in the peers' environment. A seed orders the rows, one pass, the same for everybody, and draws each start.
Settings, fixed before any run: ours as `theodolite train` has them; SAELens as its runner's defaults (lr 3e-4,
constant) and as its tutorial (rows to norm sqrt(d), learning rate falling to 0 over the last fifth); sparsify with its
default Signum and with its Adam. k latents are active per row for all. Batches are ours, 2,048 rows: 500,000 rows are a
short run for every library. Differences are paired by seed, ours minus theirs; their interval is Student's over seeds.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import Contestant, fvu, ours, sae_lens, sparsify
from safetensors.torch import load_file
from scipy.stats import t as student

from theodolite.dictionaries.allocator import keep_freed_memory
from theodolite.dictionaries.variants.topk import TopK

K, BATCH = 32, 2048
OURS = "ours topk"


def main() -> None:
    """Train everyone on every seed's stream, print and write after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    data = load_file(options.rows)
    train_nd, held_nd = data["train"], data["held_out"]
    found: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        order = torch.randperm(len(train_nd), generator=torch.Generator().manual_seed(seed))
        batches = train_nd[order].split(BATCH)[: len(train_nd) // BATCH]
        for name, make in field(batches, options.width, seed).items():
            torch.manual_seed(seed)
            contestant = make()
            for x in batches:
                contestant.step(x)
            score = fvu(contestant, held_nd)
            found.append(
                {"contestant": name, "F": options.width, "seed": seed, "rows": len(batches) * BATCH, "fvu": score}
            )
            print(f"seed {seed}  {name:32s} {score:.4f}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1))
    print(table(found, len(held_nd)))


def field(batches: tuple[torch.Tensor, ...], width: int, seed: int) -> dict[str, Callable[[], Contestant]]:
    """Everyone, from their own start."""
    first, steps = batches[0], len(batches)
    d = first.shape[1]

    def lens(**options: Any) -> Contestant:
        return sae_lens("topk", d, width, k=K, batch=BATCH, steps=steps, **options)

    tutorial = {"lr_decay_steps": steps // 5}
    return {
        OURS: lambda: ours(TopK(d, width, k=K, seed=seed, steps=steps), torch.cat(batches[:4])),
        "sae-lens topk, defaults": lens,
        "sae-lens topk, as its tutorial": lambda: lens(
            normalize_activations="expected_average_only_in", schedule=tutorial
        ),
        "sparsify, signum": lambda: sparsify(d, width, K, optimizer="signum"),
        "sparsify, adam": lambda: sparsify(d, width, K, steps=steps),
    }


def table(found: list[dict[str, Any]], n_held: int) -> str:
    """Means over seeds and paired differences."""
    names = list(dict.fromkeys(row["contestant"] for row in found))
    scores = {name: np.array([row["fvu"] for row in found if row["contestant"] == name]) for name in names}
    lines = [f"held-out FVU, {n_held} rows, {len(scores[OURS])} seeds, {found[0]['rows']} rows trained on, k = {K}"]
    for name, values in scores.items():
        difference = scores[OURS] - values
        half = student.ppf(0.975, len(values) - 1) * difference.std(ddof=1) / len(values) ** 0.5
        paired = "" if name == OURS else f"ours minus theirs {difference.mean():+.4f} ± {half:.4f}"
        lines.append(f"{name:32s} {values.mean():.4f} [{values.min():.4f}, {values.max():.4f}]  {paired}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
