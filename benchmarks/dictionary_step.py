"""Milliseconds of a TopK training step and of encoding with pooling, beside the matrix product neither can do without.

    python benchmarks/dictionary_step.py [--threads 2] [--rows 4096] [--width 4096] [--d 576] [--k 32]

Contestants take turns in one process, so that a noisy machine is noisy for all; medians and ranges are printed.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from theodolite.dictionaries.pooled import pooled_latents
from theodolite.dictionaries.variants.topk import TopK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("threads", 2), ("rows", 4096), ("width", 4096), ("d", 576), ("k", 32), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    how = parser.parse_args()
    torch.set_num_threads(how.threads)
    x_nd = torch.randn(how.rows, how.d, generator=torch.Generator().manual_seed(0))
    contestants = steps(x_nd, how.width, how.k)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(how.rounds + 1):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - begun))
    print(f"{how.rows} rows, {how.width} latents, d = {how.d}, k = {how.k}, {how.threads} threads")
    for name, (_, *ms) in times.items():
        print(f"{name:34s} {np.median(ms):7.0f} ms [{min(ms):.0f}, {max(ms):.0f}]")


def steps(x_nd: torch.Tensor, width: int, k: int) -> dict[str, Callable[[], object]]:
    """What is timed: the encoder's product alone, our two steps, a dense autograd step, and encoding with pooling."""
    d_in = x_nd.shape[1]
    trained, twin = TopK(d_in, width, k=k), TopK(d_in, width, k=k, frozen="encoder")
    for one in (trained, twin):
        one.start(x_nd)
    W_fd, out = trained.parameters_["W_enc"], torch.empty(len(x_nd), width)
    text_n = np.arange(len(x_nd)) // 25
    rows = [(text_n, np.full(len(x_nd), 3), x_nd)]
    dictionary = trained.dictionary()
    return {
        "encoder product alone": lambda: torch.mm(x_nd, W_fd.T, out=out),
        "training step": lambda: trained.partial_fit(x_nd),
        "twin's training step": lambda: twin.partial_fit(x_nd),
        "dense step by autograd": dense_step(x_nd, W_fd, k),
        "encode, pool (mean) and reconstruct": lambda: pooled_latents(dictionary, rows, int(text_n[-1]) + 1, "mean"),
    }


def dense_step(x_nd: torch.Tensor, W_fd: torch.Tensor, k: int) -> Callable[[], None]:
    """The same objective without auxiliary loss, written the plain way."""
    W_enc, W_dec = (W_fd.clone().requires_grad_() for _ in range(2))
    optimizer = torch.optim.Adam([W_enc, W_dec], fused=True)

    def step() -> None:
        pre = x_nd @ W_enc.T
        val, idx = pre.topk(k, dim=1)
        z_nf = torch.zeros_like(pre).scatter(1, idx, val.relu())
        optimizer.zero_grad()
        (x_nd - z_nf @ W_dec).square().sum().backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
