"""Runs are compared only on texts both scored, paired by row and seed, and only if they mean the same by a label."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planted_run import PRIMARY, RECIPE, row, scores
from sklearn.metrics import roc_auc_score

from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.report import export, overlay, pairing
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]


@pytest.fixture
def runs(build: Build, tmp_path: Path) -> list[Run]:
    """60 and 48 rows, 48 in common; the second run's scores are better by .8 on positive rows."""
    only = [row("logistic", PRIMARY), row("k_sparse@latents", PRIMARY)]
    first = build(tmp_path / "first", only=only, score=scores(60))
    return [first, build(tmp_path / "second", only=only, score=scores(48, shift=0.8))]


def test_values_are_scikit_learns_on_the_shared_rows_averaged_over_seeds(runs: list[Run]) -> None:
    frame = pairing.paired(runs).set_index(["method", "run"])
    hashes = set(runs[1].scores["hash"])
    for run, name in zip(runs, ("first", "second"), strict=True):
        mine = run.scores[(run.scores["method"] == "logistic") & run.scores["hash"].isin(hashes)]
        truth = np.mean([roc_auc_score(part["label"], part["score"]) for _, part in mine.groupby("seed")])
        assert frame.loc[("logistic", name), "value"] == pytest.approx(truth)
        assert frame.loc[("logistic", name), "n"] == 48


def test_differences_are_the_later_runs_minus_the_first_with_an_interval(runs: list[Run]) -> None:
    frame = pairing.paired(runs).set_index(["method", "run"])
    for method in ("logistic", "k_sparse@latents"):
        line = frame.loc[(method, "second")]
        assert line["difference"] == pytest.approx(line["value"] - frame.loc[(method, "first"), "value"])
        assert line["difference_lo"] < line["difference"] < line["difference_hi"]
        assert np.isnan(frame.loc[(method, "first"), "difference"])


def test_a_run_beside_itself_differs_by_nothing(build: Build, tmp_path: Path) -> None:
    only = [row("logistic", PRIMARY)]
    twice = [build(tmp_path / name, only=only) for name in ("one", "other")]
    frame = pairing.paired(twice)
    later = frame[frame["run"] == "other"]
    assert later["difference"].abs().max() == 0
    assert later["difference_lo"].abs().max() == 0


def test_two_perfect_runs_differ_by_an_unknown_amount(build: Build, tmp_path: Path) -> None:
    """30 requests in 6 templates: failures that so few groups cannot show may differ, so the interval is not [0, 0]."""
    only, perfect = [row("logistic", PRIMARY)], scores(60)
    perfect["score"] = perfect["label"] + 0.01 * perfect["score"]
    other = perfect.assign(score=perfect["score"] ** 3)
    made = [build(tmp_path / name, only=only, score=s) for name, s in (("one", perfect), ("other", other))]
    later = pairing.paired(made).set_index("run").loc[["other"]]
    assert set(later["value"]) == {1.0}
    assert set(later["difference"]) == {0.0}
    assert later["difference_lo"].max() < -0.02
    assert later["difference_hi"].min() > 0.02


def test_unscored_rows_leave_both_runs(build: Build, tmp_path: Path) -> None:
    only, holes = [row("logistic", PRIMARY)], scores(60)
    holes.loc[holes["hash"].isin([f"{i:016x}" for i in range(10)]), "score"] = np.nan
    made = [build(tmp_path / "whole", only=only), build(tmp_path / "holes", only=only, score=holes)]
    assert set(pairing.paired(made)["n"]) == {50}


def test_another_site_is_another_question(build: Build, tmp_path: Path) -> None:
    only = [row("logistic", PRIMARY)]
    two_sites = scores(60, sites=("blocks.17.resid_post", "blocks.3.resid_post"))
    made = [build(tmp_path / "a", only=only), build(tmp_path / "b", only=only, score=two_sites)]
    frame = pairing.paired(made)
    assert frame["difference"].dropna().abs().max() == 0


def test_labels_that_disagree_are_refused(build: Build, tmp_path: Path) -> None:
    only, other = [row("logistic", PRIMARY)], scores(60)
    other.loc[other["hash"] == f"{3:016x}", "label"] = 0
    made = [build(tmp_path / "a", only=only), build(tmp_path / "b", only=only, score=other)]
    with pytest.raises(UserError, match="1 texts have another label in 'b'"):
        pairing.paired(made)


def test_runs_without_common_texts_are_refused(build: Build, tmp_path: Path) -> None:
    only, other = [row("logistic", PRIMARY)], scores(60)
    made = [build(tmp_path / "a", only=only), build(tmp_path / "b", only=only, score=other.assign(dataset="else"))]
    with pytest.raises(UserError, match="share no data set"):
        pairing.paired(made)
    other["hash"] = "f" + other["hash"].str[1:]
    made = [build(tmp_path / "c", only=only), build(tmp_path / "d", only=only, score=other)]
    with pytest.raises(UserError, match="share no data set"):
        pairing.paired(made)


def test_shared_counts_every_data_set(runs: list[Run]) -> None:
    assert pairing.shared(runs).to_dict("index") == {PRIMARY: {"first": 60, "second": 48, "shared": 48}}


def test_the_same_folder_twice_is_refused(runs: list[Run]) -> None:
    with pytest.raises(UserError, match="hold the same run"):
        pairing.paired([runs[0], runs[0]])


def test_page_figure_and_latex_carry_the_difference(runs: list[Run]) -> None:
    _, _, sections = overlay.page(runs)
    assert [section.title for section in sections] == ["Runs", "On shared rows"]
    line = pairing.paired(runs).set_index(["method", "run"]).loc[("logistic", "second")]
    written = f"+{line['difference']:.3f}".replace("0.", ".", 1)
    assert written in overlay.latex(runs)
    chart = overlay.chart(Sheet(runs[0]), pairing.paired(runs))
    drawn = {line.get_label(): line for line in chart.axes[0].lines}
    assert drawn["second"].get_xdata()[0] == pytest.approx(line["value"])


def test_exports_land_in_the_first_folder_or_where_asked(runs: list[Run], tmp_path: Path) -> None:
    folders = [run.folder for run in runs]
    assert export.write(folders, format="html") == folders[0] / "exports" / "overlay.html"
    assert export.write(folders[:1]) == folders[0] / "report.html"
    assert export.write(folders[:1], format="latex", out=tmp_path / "mine.tex").read_text().startswith(r"\begin{table}")
    figures = export.write(folders[:1], format="svg", out=tmp_path / "figures")
    assert [path.name for path in figures.iterdir()] == ["forest.svg"]
    csv = export.write(folders, format="csv").read_text().splitlines()
    assert csv[0].split(",")[:4] == ["dataset", "method", "run", "value"]
    assert len(csv) == 5
    with pytest.raises(UserError, match="unknown format"):
        export.write(folders, format="pdf")
    with pytest.raises(UserError, match="at least one"):
        export.write([])


@pytest.mark.parametrize("format", ["html", "latex", "svg", "csv"])
@pytest.mark.parametrize("beside", [True, False])
def test_nothing_is_exported_of_an_unfinished_run(runs: list[Run], tmp_path: Path, format: str, beside: bool) -> None:
    half = Run.create(tmp_path / "half", RECIPE, "e" * 64).folder
    with pytest.raises(UserError, match=r"half' is unfinished: the same compare command continues it$"):
        export.write([runs[0].folder, half] if beside else [half], format=format, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
