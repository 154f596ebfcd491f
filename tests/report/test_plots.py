"""What a figure draws is what the rows say: positions are read back from the axes."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planted_run import CARD, PRIMARY, VERDICT, planted, row

from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.report.chart import Chart
from theodolite.report.forest import contrasts, forest
from theodolite.report.plots import learning_curve, plot
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]


@pytest.fixture(scope="module")
def sheet(run: Run) -> Sheet:
    return Sheet(run)


def texts(chart: Chart) -> dict[str, float]:
    """Words drawn in the first panel, with their y."""
    return {text.get_text(): text.get_position()[1] for text in chart.axes[0].texts}


def test_forest_puts_every_method_at_its_value_with_its_interval(sheet: Sheet) -> None:
    column = sheet.headline("matched")[2]
    chart = forest(sheet, [column])
    assert chart is not None
    y = texts(chart)["LAT"]
    drawn = [line for line in chart.axes[0].lines if len(line.get_ydata()) and np.allclose(line.get_ydata(), y)]
    point = next(line for line in drawn if line.get_marker() == "o")
    whisker = next(line for line in drawn if len(line.get_xdata()) == 2)
    value = planted("lat", PRIMARY)
    assert point.get_xdata()[0] == pytest.approx(value)
    assert list(whisker.get_xdata()) == pytest.approx([value - 0.034, value + 0.034])


def test_forest_lists_methods_top_down_and_draws_chance(sheet: Sheet) -> None:
    chart = plot(sheet, "forest")
    y = texts(chart)
    assert y["Dense activations"] < y["LAT"] < y["SAE latents"] < y["K-sparse logistic (k = 4)"] < y["Controls"]
    bottom, top = chart.axes[0].get_ylim()
    assert bottom > top, "y grows downwards"
    assert any(np.allclose(line.get_xdata(), 0.5) for line in chart.axes[0].lines)


def test_values_below_the_axis_are_arrows_at_its_edge(build: Build, tmp_path: Path) -> None:
    low = row("lat", PRIMARY, value=0.1, lo=0.05, hi=0.2)
    sheet = Sheet(build(tmp_path, only=[low, row("logistic", PRIMARY)]))
    chart = plot(sheet, "forest")
    edge = chart.axes[0].get_xlim()[0]
    arrows = [line for line in chart.axes[0].lines if line.get_marker() == "<"]
    assert [line.get_xdata()[0] for line in arrows] == [edge]


def test_contrasts_draw_the_margin_and_their_words(sheet: Sheet) -> None:
    chart = contrasts(sheet, VERDICT["contrasts"])
    (band,) = chart.axes[0].patches
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.02, 0.04))
    assert {"worse", "undecided", "equivalent"} <= texts(chart).keys()
    lo, hi = chart.axes[0].get_xlim()
    assert lo < -0.054
    assert hi == -lo


def test_contrasts_without_an_interval_are_points(sheet: Sheet) -> None:
    chart = contrasts(sheet, [VERDICT["contrasts"][0] | {"lo": None, "hi": None}])
    assert [line.get_marker() for line in chart.axes[0].lines].count("o") == 1


def test_heat_map_cells_are_where_block_and_method_say(sheet: Sheet) -> None:
    chart = plot(sheet, "sites")
    grid = chart.axes[1].collections[0].get_array().reshape(4, 30)
    best = planted("logistic", PRIMARY)
    assert grid[2, 17] == pytest.approx(best)
    assert grid[2, 0] == pytest.approx(best - 0.25)
    assert [t.get_text() for t in chart.axes[1].get_xticklabels()] == [str(block) for block in range(30)]
    assert [t.get_text() for t in chart.axes[1].get_yticklabels()][2] == "Logistic"
    frame = next(patch for patch in chart.axes[1].patches if patch.get_width() == 1)
    assert frame.get_x() == 16.5


def test_k_sparse_curve_runs_over_k_beside_the_dense_probe(sheet: Sheet) -> None:
    chart = plot(sheet, "k-sparse")
    panel = chart.axes[2]
    named = {line.get_label(): line for line in panel.lines}
    latents = named["SAE latents"]
    assert list(latents.get_ydata()) == pytest.approx(
        [planted(f"k_sparse(k={k})@latents", PRIMARY) for k in (1, 4, 16, 64, 128)]
    )
    dense = named["Logistic on dense activations, 95 % interval"]
    assert dense.get_ydata()[0] == pytest.approx(planted("logistic", PRIMARY))
    assert "k=16 .763" in chart.alt


def test_k_sparse_curve_names_its_reference_and_no_interval_where_there_is_none(build: Build, tmp_path: Path) -> None:
    few = [row(m, PRIMARY, lo=math.nan, hi=math.nan) for m in ("k_sparse(k=4)@latents", "ridge")]
    made = build(tmp_path, only=few, recipe={"contrasts": [{"method": "k_sparse(k=4)@latents", "than": "ridge"}]})
    axes = plot(Sheet(made), "k-sparse").axes[0]
    assert "Ridge on dense activations" in axes.get_legend_handles_labels()[1]
    assert not axes.patches


def test_learning_curve_is_the_cards(sheet: Sheet) -> None:
    (line,) = learning_curve(CARD["learning_curve"]).axes[0].lines
    assert list(zip(*line.get_data(), strict=True)) == [tuple(point) for point in CARD["learning_curve"]]


def test_an_unknown_plot_and_an_empty_one_are_errors(build: Build, tmp_path: Path, sheet: Sheet) -> None:
    with pytest.raises(UserError, match="did you mean 'forest'"):
        plot(sheet, "forrest")
    bare = Sheet(build(tmp_path, only=[row("logistic", PRIMARY)]))
    with pytest.raises(UserError, match="no numbers for the 'sites' plot"):
        plot(bare, "sites")


def test_svg_is_one_accessible_picture_and_the_same_every_time(build: Build, tmp_path: Path) -> None:
    sheet = Sheet(build(tmp_path, only=[row("lat", PRIMARY), row("ridge", PRIMARY, value=math.nan)]))
    first, second = plot(sheet, "forest").svg(), plot(sheet, "forest").svg()
    assert first == second
    assert first.count("<title>") == 1
    assert 'role="img"' in first
    assert "<metadata>" not in first
    assert plot(sheet, "forest")._repr_svg_() == first
