"""Are shuffled labels a null of a steering effect? The table and the figure of docs/shuffled-labels.svg.

    python benchmarks/shuffled_labels.py [--draws 1000] [--out docs/shuffled-labels.svg]

The toy is `theodolite.toys.shuffled_labels`: 64 columns, a concept 12 standard deviations apart. Every direction is
scaled to a disturbance of .1 nat. Plain shuffles reach half of the true effect, at any number of texts.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from theodolite.control.nulls import random_directions, shuffled_labels, stratified_labels
from theodolite.toys.shuffled_labels import Shuffles, shuffles

SIZES = (50, 100, 200, 500, 1000)  # texts
NATS = 0.1
NULLS: dict[str, Callable[[Shuffles, int], np.ndarray]] = {
    "plain shuffled labels": lambda toy, m: toy.differences(shuffled_labels(toy.labels, m)),
    "random directions, covariance of all texts": lambda toy, m: random_directions(toy.rows, m),
    "labels shuffled within classes": lambda toy, m: toy.differences(stratified_labels(toy.labels, m)),
    "random directions, covariance within classes": lambda toy, m: random_directions(toy.rows, m, label_n=toy.labels),
}


def main() -> None:
    """Print the table and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("docs/shuffled-labels.svg"))
    arguments = parser.parse_args()
    band_rc = measure(arguments.draws)
    truth = float(np.sqrt(2 * NATS))
    print(table(band_rc, truth))
    draw(band_rc, truth, arguments.draws, arguments.out)


def measure(draws: int) -> np.ndarray:
    """95 % of |effect| in nats, for each null (rows) and number of texts (columns)."""
    toys = [shuffles(n=n) for n in SIZES]
    return np.array(
        [[np.quantile(abs(toy.effect(make(toy, draws), NATS)), 0.95) for toy in toys] for make in NULLS.values()]
    )


def table(band_rc: np.ndarray, truth: float) -> str:
    """Markdown: nulls down, numbers of texts across."""
    lines = [f"| 95 % of effects, nats (the true direction: {truth:.2f}) | {' | '.join(f'n={n}' for n in SIZES)} |"]
    lines.append("|---" * (len(SIZES) + 1) + "|")
    for name, band_c in zip(NULLS, band_rc, strict=True):
        lines.append(f"| {name} | {' | '.join(f'{band:.2f}' for band in band_c)} |")
    return "\n".join(lines)


def draw(band_rc: np.ndarray, truth: float, draws: int, path: Path) -> None:
    """One line per null over the number of texts, with the true direction's effect above them."""
    mpl.rcParams.update({"svg.hashsalt": "theodolite", "svg.fonttype": "none", "font.size": 9})
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, band_c, marker in zip(NULLS, band_rc, "osv^", strict=True):
        axis.plot(SIZES, band_c, marker=marker, ms=5, label=name)
    axis.axhline(truth, color="0.4", lw=1, ls=":")
    axis.text(SIZES[0], truth, "the true direction", va="bottom", color="0.4")
    axis.set(xscale="log", ylim=(0, None), xlabel="texts", ylabel=f"95 % of |effect| at {NATS} nat ({draws} draws)")
    axis.set_xticks(SIZES, [str(n) for n in SIZES])
    axis.minorticks_off()
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
