"""Curves of selective prediction: error against coverage, and label frequency against calibrated probability."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd

from theodolite.core.run import IN_DISTRIBUTION
from theodolite.report.chart import GREY, WIDTH, Chart, style, title
from theodolite.report.numbers import share, short, upper
from theodolite.report.sheet import Sheet

COLOURS = ("#1a1a1a", "#D55E00", "#0072B2", "#008060", "#B4558F", "#A67C00", "#56B4E9", "#8C6D5A", "#6B6B6B")
BINS = 10
SHARES = np.linspace(0.02, 1, 50)
BETWEEN, LEFT, HIGH, HEIGHT = 0.35, 0.55, 2.3, 3.75  # inches


def risk_coverage(sheet: Sheet, detail: pd.DataFrame, alpha: float) -> Chart:
    """Return one panel per reader: the error among the most confident share of each data set."""
    with style():
        chart, panels = _panels(sheet, detail, "Risk-coverage curves of the chosen rule. ")
        described = []
        for axes, name, rows in panels:
            ends = []
            for colour, (dataset, part) in zip(cycle(COLOURS), _datasets(rows), strict=False):
                curve, (coverage, error) = _curve(part)
                line: Any = {"color": colour, "lw": 1.6 if dataset == IN_DISTRIBUTION else 1.1}
                axes.plot(SHARES, curve, label=dataset, **line)
                if coverage > 0:
                    axes.plot([coverage], [error], "o", color=colour, ms=5, mec="white", mew=0.5)
                end = f"{share(error)} at coverage {share(coverage)}" if coverage > 0 else "none"
                ends.append(f"{dataset} {end}")
            axes.axhline(1 - alpha, color=GREY, lw=0.8, ls=(0, (2, 2)))
            axes.set_xlabel("coverage: share of rows accepted")
            described.append(f"{name}: {', '.join(ends)}")
        top = max(axes.get_ylim()[1] for axes, _, _ in panels)
        for axes, _, _ in panels:
            axes.set(xlim=(0, 1.02), ylim=(0, top))
            axes.yaxis.set_major_formatter(lambda v, _: short(v))
        panels[0][0].set_ylabel("error among these")
        _legend(chart, panels[0][0])
        chart.alt += f"Error among accepted rows: {'; '.join(described)}."
    return chart


def reliability(sheet: Sheet, detail: pd.DataFrame) -> Chart:
    """Return one panel per reader: the share of label 1 against the calibrated probability."""
    with style():
        chart, panels = _panels(sheet, detail, "Reliability of calibrated probabilities. ")
        described = []
        for axes, name, rows in panels:
            axes.plot([0, 1], [0, 1], color=GREY, lw=0.8, ls=(0, (2, 2)))
            gaps = []
            for colour, (dataset, part) in zip(cycle(COLOURS), _datasets(rows), strict=False):
                probability, happened, n = _bins(part["probability"].to_numpy(), part["label"].to_numpy())
                axes.plot(probability, happened, color=colour, lw=0.9)
                axes.scatter(
                    probability, happened, s=4 + 60 * n / max(n.sum(), 1), color=colour, label=dataset, zorder=3
                )
                gaps.append(f"{dataset} {share(float(np.average(np.abs(probability - happened), weights=n)))}")
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="calibrated probability of label 1")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda v, _: short(v))
            described.append(f"{name}: {', '.join(gaps)}")
        panels[0][0].set_ylabel("share with label 1")
        _legend(chart, panels[0][0])
        chart.alt += f"Mean gap between probability and share: {'; '.join(described)}."
    return chart


def _panels(sheet: Sheet, detail: pd.DataFrame, alt: str) -> tuple[Chart, list[tuple[Any, str, pd.DataFrame]]]:
    readers = list(detail.groupby("method", sort=False))
    width = min(4.0, (WIDTH - LEFT) / len(readers) - BETWEEN)
    chart = Chart(WIDTH, HEIGHT, alt)
    panels = []
    for at, (method, rows) in enumerate(readers):
        axes = chart.axes_at(LEFT + at * (width + BETWEEN), 0.35, width, HIGH)
        name = upper(sheet.phrase(str(method)))
        title(axes, name)
        panels.append((axes, name, rows))
    return chart, panels


def _legend(chart: Chart, axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    chart.legend(handles, names, loc="lower left", bbox_to_anchor=(0.045, 0), ncols=4)


def _datasets(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for dataset, part in rows.groupby("dataset", sort=False):
        yield str(dataset), part


def _curve(rows: pd.DataFrame) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the mean error for each of `SHARES`, and the certified rule's mean coverage and error."""
    curves: list[np.ndarray] = []
    ends: list[tuple[float, float]] = []
    for _, part in rows.groupby("seed", sort=False):
        wrong = (part["predicted"] != part["label"]).to_numpy()
        curves.append(_errors(wrong, part["confidence"].to_numpy()))
        accepted = (part["reason"] == "").to_numpy()
        if accepted.any():
            ends.append((float(accepted.mean()), float(wrong[accepted].mean())))
    n_sets = len(curves)
    coverage = sum(c for c, _ in ends) / n_sets
    return np.mean(curves, axis=0), (coverage, float(np.mean([e for _, e in ends])) if ends else 0.0)


def _errors(wrong: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Return the error among the most confident for each of `SHARES`; rows of equal confidence share their error.

    >>> _errors(np.array([1, 0, 0, 0]), np.array([1.0, 1.0, 1.0, 1.0]))[[0, -1]].tolist()
    [0.25, 0.25]
    """
    _, place, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    expected = (np.bincount(place, weights=wrong) / size)[place[order]]
    errors = np.cumsum(expected) / np.arange(1, len(order) + 1)
    return errors[np.maximum(np.round(SHARES * len(order)).astype(int), 1) - 1]


def _bins(probability: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean probability, share of label 1 and number of rows of ten bins of equal size.

    >>> [part.tolist() for part in _bins(np.repeat([0.25, 0.75], 10), np.repeat([0, 1], 10))]
    [[0.25, 0.75], [0.0, 1.0], [10, 10]]
    """
    edges = np.unique(np.quantile(probability, np.arange(1, BINS) / BINS, method="higher"))
    member = np.searchsorted(edges, probability, side="right")
    used: Sequence[int] = np.unique(member).tolist()
    inside = [member == b for b in used]
    means = ([values[i].mean() for i in inside] for values in (probability, label))
    return (*(np.array(m, dtype=float) for m in means), np.array([i.sum() for i in inside]))  # type: ignore[return-value]
