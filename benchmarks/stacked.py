"""What dictionaries of one shape would gain from one encoder product for all of them.

    python benchmarks/stacked.py [--threads 2] [--rounds 20]

Rows of 576 numbers, 2,048 a batch, float32. Each round times the products one by one and as one, in an order drawn
anew; the ratio above 1 is what stacking gains. Median over rounds and the interval of order statistics (95 %).
"""

import argparse
import os
import time

import numpy as np
import torch
from sae_step import median_interval

D, BATCH, CASES = 576, 2048, ((4096, 2), (4096, 6), (8192, 3))


def main() -> None:
    """Print a line per width and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    order = np.random.default_rng(0)
    for width, count in CASES:
        x_nd, W_kfd = torch.randn(BATCH, D), torch.randn(count, width, D)
        apart_knf, stacked_nf = torch.empty(count, BATCH, width), torch.empty(BATCH, count * width)

        def apart(x_nd=x_nd, W_kfd=W_kfd, out_knf=apart_knf) -> None:
            for W_fd, out_nf in zip(W_kfd, out_knf, strict=True):
                torch.mm(x_nd, W_fd.T, out=out_nf)

        def stacked(x_nd=x_nd, W_kfd=W_kfd, out_nf=stacked_nf) -> None:
            torch.mm(x_nd, W_kfd.flatten(0, 1).T, out=out_nf)

        seconds = {apart: [], stacked: []}
        for _ in range(options.rounds + 2):
            for product in order.permutation([apart, stacked]):
                begun = time.perf_counter()
                product()
                seconds[product].append(time.perf_counter() - begun)
        ratio, lo, hi = median_interval(np.array(seconds[apart][2:]) / np.array(seconds[stacked][2:]))
        ms = 1e3 * np.median(seconds[stacked])
        print(f"{count} of {width} latents: {ms:.0f} ms as one, one by one {ratio:.3f} [{lo:.3f}, {hi:.3f}] of that")


if __name__ == "__main__":
    main()
