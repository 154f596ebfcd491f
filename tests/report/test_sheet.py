"""Order and names come from the recipe; a cell is the aggregate, or honest points."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from planted_run import PLANTED, PRIMARY, RECIPE, row

from theodolite.core.run import IN_DISTRIBUTION, Run
from theodolite.report.sheet import Sheet, _cell

Build = Callable[..., Run]


@pytest.fixture(scope="module")
def sheet(run: Run) -> Sheet:
    return Sheet(run)


def test_headline_is_the_left_out_sources_and_the_primary_shift(sheet: Sheet) -> None:
    assert [(c.title, c.subtitle) for c in sheet.headline("matched")] == [
        ("rho", "left-out source"),
        ("rho vs edgy", "left-out source"),
        (PRIMARY, "primary shift, pooled"),
        (PRIMARY, "within template"),
    ]


def test_without_a_left_out_source_the_mix_stands_in_under_its_own_name(build: Build, tmp_path: Path) -> None:
    sheet = Sheet(
        build(tmp_path, only=[row("logistic", IN_DISTRIBUTION), row("logistic", "health")], recipe={"primary": None})
    )
    assert [(c.title, c.subtitle) for c in sheet.headline("matched")] == [
        ("Training mix", "source recognition"),
        ("health", "shift"),
    ]


def test_order_is_the_recipes_whatever_the_values(build: Build, tmp_path: Path) -> None:
    methods = ["ridge", "word_ngrams", "logistic@latents", "logistic", "lat"]
    rows = [row(m, PRIMARY, value=v / 10) for v, m in enumerate(methods)]
    sheet = Sheet(build(tmp_path, only=rows, recipe={"methods": ["lat", "logistic"]}))
    assert [e.method for e in sheet.entries("matched")] == [
        "lat",
        "logistic",
        "ridge",
        "logistic@latents",
        "word_ngrams",
    ]


def test_draws_of_a_random_direction_are_one_line_with_their_range(sheet: Sheet) -> None:
    column = sheet.headline("matched")[0]
    cell = sheet.cell("matched", "random_direction", "blocks.17.resid_post", column)
    assert cell is not None
    assert (cell.value, cell.lo, cell.hi) == pytest.approx((0.48, 0.44, 0.52))
    shown = [e.method for e in sheet.entries("matched")]
    assert len(shown) == len(PLANTED) - 1
    assert shown.count("random_direction") == 1


def test_too_few_seeds_become_points_and_never_an_interval(build: Build, tmp_path: Path) -> None:
    nan = math.nan
    rows = [row("lat", PRIMARY, value=0.75, lo=nan, hi=nan)]
    rows += [row("lat", PRIMARY, seed=str(s), value=v, lo=nan, hi=nan) for s, v in enumerate([0.7, nan, 0.8])]
    sheet = Sheet(build(tmp_path, only=rows))
    cell = sheet.cell("matched", "lat", "blocks.17.resid_post", sheet.headline("matched")[0])
    assert cell is not None
    assert cell.value == 0.75
    assert cell.points == (0.7, 0.8)
    assert math.isnan(cell.lo)


@pytest.mark.parametrize(
    ("method", "label", "phrase"),
    [
        ("k_sparse(k=16)@latents", "K-sparse logistic (k = 16)", "k-sparse logistic (k = 16) on SAE latents"),
        ("logistic@state+latents", "Logistic", "logistic on dense activations and SAE latents"),
        ("lat", "LAT", "LAT on dense activations"),
        ("prompting(column=few_shot)", "Prompting (135M, few-shot)", "prompting (135M, few-shot)"),
        ("mine.py:Own(a=1,b=2)@error", "Own (a = 1, b = 2)", "Own (a = 1, b = 2) on the SAE's error"),
        (
            "k_sparse@latents [text-only]",
            "K-sparse logistic (text-only dictionary)",
            "k-sparse logistic (text-only dictionary) on SAE latents",
        ),
        ("<b>", "<b>", "<b>"),
    ],
)
def test_methods_have_names_a_reader_can_read(sheet: Sheet, method: str, label: str, phrase: str) -> None:
    assert (sheet.label(method), sheet.phrase(method)) == (label, phrase)


def test_a_view_is_the_runs_own_word_and_never_guessed(build: Build, tmp_path: Path) -> None:
    sheet = Sheet(build(tmp_path, only=[row("logistic", PRIMARY)], facts={"views": {"length": "text"}}))
    assert sheet.group("length").title == "Text alone"
    assert sheet.group("own_method").title == "Other"
    assert sheet.group("own_method@control").title == "Frozen-encoder SAE"


def test_the_reference_is_what_the_contrasts_measure_against(build: Build, tmp_path: Path) -> None:
    contrasts = [
        {"method": "lat", "than": "ridge"},
        {"method": "lda", "than": "ridge"},
        {"method": "lat", "than": "lda"},
    ]
    sheet = Sheet(build(tmp_path, only=[row("logistic", PRIMARY)], recipe={"contrasts": contrasts}))
    assert sheet.reference == "ridge"
    assert RECIPE["contrasts"][0]["than"] == "logistic"


@pytest.mark.parametrize(("lo", "hi"), [(0.30, 0.42), (math.nan, math.nan)])
def test_a_method_that_does_not_learn_keeps_its_interval_and_a_constant_has_none(lo: float, hi: float) -> None:
    """Prompting gives every training set the same scores: other rows would change them, so it has an interval."""
    rows = [
        SimpleNamespace(seed=str(seed), value=0.36, lo=math.nan, hi=math.nan, n=300, n_groups=149) for seed in range(5)
    ]
    cell = _cell([SimpleNamespace(seed="all", value=0.36, lo=lo, hi=hi, n=300, n_groups=149), *rows])
    assert (cell.lo, cell.hi) == pytest.approx((lo, hi), nan_ok=True)
    assert cell.points == ()
