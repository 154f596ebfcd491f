"""What the default learning rates rest on: a variant at several rates, judged on rows of training that were kept out.

    python benchmarks/rows.py rows.safetensors --rows 500000
    python benchmarks/sae_rates.py rows.safetensors --sae topk --width 4096 --rates 1e-3 2e-3 4e-3 [--passes 4]

The last 20,000 training rows judge, the others train, in batches of 2,048, in one order (seed 99). A latent is unused
if none of the last 100,000 training rows had it active.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from theodolite.dictionaries.names import parse
from theodolite.dictionaries.training.allocator import keep_freed_memory

BATCH, KEPT, SEED, UNUSED = 2048, 20_000, 99, 100_000


def main() -> None:
    """Train at each rate and print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--sae", default="topk")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--passes", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    rows_nd = load_file(options.rows)["train"]
    train_nd, kept_nd = rows_nd[:-KEPT], rows_nd[-KEPT:]
    train_nd = train_nd[torch.randperm(len(train_nd), generator=torch.Generator().manual_seed(SEED))]
    batches = train_nd.split(BATCH)[: len(train_nd) // BATCH]
    spec, steps = parse(options.sae), options.passes * len(batches)
    for rate in options.rates:
        how = {"width": options.width, "lr": rate} | spec.params
        fitted = spec.cls(train_nd.shape[1], seed=SEED, steps=steps, **how)
        fitted.start(torch.cat(batches[:4]))
        fitted.fit(batches * options.passes)
        found = fitted.dictionary()
        l0 = sum(float((found.encode(x) != 0).sum()) for x in kept_nd.split(BATCH)) / KEPT
        unused = float((fitted.unused_for_ > UNUSED).double().mean())
        print(
            f"{spec} width={options.width} lr={rate:g}: {steps} steps, FVU {found.fvu(kept_nd):.4f}, L0 {l0:.1f}, "
            f"unused {unused:.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
