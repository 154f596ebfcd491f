import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_rows import frame_of, sentences

from theodolite.data.audit import NO_FOLDS, overview
from theodolite.data.dataset import Dataset
from theodolite.data.text_baselines import TextBaseline, text_baselines

path = Path(__file__).parents[2] / "benchmarks" / "text_baselines.py"
spec = importlib.util.spec_from_file_location("study_of_text_baselines", path)
assert spec is not None
assert spec.loader is not None
study = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = study  # dataclasses look their module up
spec.loader.exec_module(study)

LABELS = [1, 0] * 60


def find(rows: list[TextBaseline], feature: str, fitted_on: str, scored_on: str) -> TextBaseline:
    (row,) = [r for r in rows if (r.feature, r.fitted_on, r.scored_on) == (feature, fitted_on, scored_on)]
    return row


def longer_positives(seed: int) -> pd.DataFrame:
    bare = sentences(120, seed)
    return frame_of([f"{t} {t[::-1]}" if y else t for t, y in zip(bare, LABELS, strict=True)], LABELS)


def test_length_that_tells_the_label_is_seen_and_fresh_words_are_not() -> None:
    rows = text_baselines(longer_positives(0), {"shift": longer_positives(1)}, seed=0)
    for fitted_on, scored_on in (("itself", "train"), ("itself", "shift"), ("train", "shift")):
        assert find(rows, "length", fitted_on, scored_on).auroc > 0.99
    words = find(rows, "words", "train", "shift")
    assert abs(words.auroc - 0.5) < 0.05
    assert words.lo < words.auroc < words.hi
    assert (words.n, words.n_groups) == (120, 120)


def test_rows_that_are_trained_on_and_scored_count_twice() -> None:
    """Near .5 the variance of the scores of one fit is that of a rank sum; folds score every pair of rows twice."""
    frames = [study.texts(120, 0.0, np.random.default_rng(seed)) for seed in (0, 1)]
    rows = text_baselines(frames[0], {"shift": frames[1]}, seed=0)
    positive = frames[1]["label"].sum()
    rank_sum = (121 / (12 * positive * (120 - positive))) ** 0.5
    for feature in ("words", "characters"):
        once, twice = (find(rows, feature, fitted_on, "shift") for fitted_on in ("train", "itself"))
        assert once.hi - once.lo == pytest.approx(2 * 1.96 * rank_sum, rel=0.15)
        assert twice.hi - twice.lo == pytest.approx(2 * 1.96 * rank_sum * 2**0.5, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("tell", [0.0, 0.4])
def test_intervals_cover_what_such_rows_give(tell: float) -> None:
    for cell in study.cells(200, tell, replicates=120):
        assert cell.covered >= 0.95 - 3 * (0.95 * 0.05 / 120) ** 0.5, cell


def test_a_word_carries_over_only_where_it_means_the_same() -> None:
    mark = [f"{t} {'bad' if y else 'good'}" for t, y in zip(sentences(120, 0), LABELS, strict=True)]
    flipped = [f"{t} {'good' if y else 'bad'}" for t, y in zip(sentences(120, 1), LABELS, strict=True)]
    rows = text_baselines(frame_of(mark, LABELS), {"flipped": frame_of(flipped, LABELS)}, seed=0)
    assert find(rows, "words", "itself", "train").auroc == 1
    assert find(rows, "words", "itself", "flipped").auroc == 1
    reversed_ = find(rows, "words", "train", "flipped")
    assert reversed_.auroc == 0
    # 60 groups per class without a failure leave room for a rate of 1 - .025^(1/60) (Clopper & Pearson)
    perfect, hidden = find(rows, "words", "itself", "train"), 1 - 0.025 ** (1 / 60)
    assert (perfect.lo, perfect.hi) == (pytest.approx(1 - hidden), pytest.approx(1))
    assert (reversed_.lo, reversed_.hi) == (pytest.approx(0), pytest.approx(hidden))


def test_each_source_of_both_classes_is_scored_by_the_others() -> None:
    source = ["a"] * 60 + ["b"] * 60
    rows = text_baselines(longer_positives(0).assign(source=source), {}, seed=0)
    assert find(rows, "length", "train without a", "a").auroc > 0.99
    assert find(rows, "length", "train without b", "b").n == 60


def test_copies_in_another_source_are_not_trained_on() -> None:
    """The other source is the same texts with the labels swapped; without it there is nothing left to train on."""
    bare = sentences(60, 0)
    frame = frame_of([*bare, *(t + " ." for t in bare)], [1, 0] * 30 + [0, 1] * 30, ["a"] * 60 + ["b"] * 60)
    frame["cluster"] = [*range(60), *range(60)]
    assert not [r for r in text_baselines(frame, {}, 0) if "without" in r.fitted_on]


def test_one_class_has_no_figure_and_wrapped_rows_count_requests_and_templates() -> None:
    wrapped = longer_positives(1).assign(cluster=np.repeat(range(30), 4), template=[f"t{i % 5}" for i in range(120)])
    edgy = frame_of(sentences(30, 2), [0] * 30)
    rows = text_baselines(longer_positives(0), {"wrapped": wrapped, "edgy": edgy}, seed=0)
    assert {r.scored_on for r in rows} == {"train", "wrapped"}
    assert {r.fitted_on for r in rows if r.scored_on == "wrapped"} == {"train"}
    found = find(rows, "length", "train", "wrapped")
    assert found.n_groups == 5
    assert 0 <= found.lo <= found.auroc <= found.hi <= 1


def test_too_few_clusters_have_no_baseline_fitted_on_themselves_and_the_audit_says_so() -> None:
    """Four groups of a class, or five that one fold must hold together: a fold's training rows were of one class."""
    few = longer_positives(0).assign(cluster=np.where(np.array(LABELS) == 1, np.arange(120) % 4, np.arange(120)))
    rows = text_baselines(few, {"shift": longer_positives(1)}, seed=0)
    assert not [r for r in rows if (r.fitted_on, r.scored_on) == ("itself", "train")]
    assert find(rows, "length", "train", "shift").auroc > 0.99
    assert NO_FOLDS in overview(Dataset("few", few, note="A note.")).note
    assert overview(Dataset("many", longer_positives(0), note="A note.")).note == "A note."
    assert overview(Dataset("edgy", frame_of(sentences(30, 2), [0] * 30))).note == ""
