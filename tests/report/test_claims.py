"""Words about claims come from their JSON alone."""

from pathlib import Path
from typing import Any

import pytest

from theodolite.core import claim_file
from theodolite.core.claim_file import WORDS
from theodolite.report import claims
from theodolite.report.terminal import TONES

DOCS = Path(__file__).parents[2] / "docs" / "claims.md"
TEST: dict[str, Any] = {
    "metric": "auroc",
    "method": "k_sparse@latents",
    "versus": "logistic",
    "dataset": "drizzle",
    "lies": "below",
    "bound": 0.0,
    "margin": 0.02,
    "answer": "yes",
    "value": -0.05,
    "lo": -0.09,
    "hi": -0.01,
    "n": 1200,
    "why": "",
}


def test_every_word_has_a_colour_a_meaning_and_a_line_in_the_docs() -> None:
    assert set(claims.TONES) == set(claims.MEANINGS) == set(WORDS)
    assert set(claims.TONES.values()) <= TONES.keys()
    page = DOCS.read_text(encoding="utf-8")
    assert all(f"\n| {word} |" in page for word in WORDS)
    assert all(f"- `{name}`: " in page for name in claim_file.names())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {},
            "k-sparse logistic on latents minus logistic on drizzle lies below 0 (a distance under .02 counts as none)",
        ),
        ({"lies": "within"}, "lies within .02 of 0"),
        ({"versus": "", "margin": 0.0, "bound": 0.9, "lies": "above"}, "on latents on drizzle lies above .9"),
        ({"nats": 0.1, "split": "+"}, "(nats 0.1, split +) on drizzle"),
        ({"method": "", "versus": "", "metric": "rank_correlation"}, "rank_correlation on drizzle"),
    ],
)
def test_a_statement_is_written_out(change: dict[str, Any], says: str) -> None:
    assert says in claims.statement(TEST | change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "drizzle \N{MINUS SIGN}.050 [\N{MINUS SIGN}.090, \N{MINUS SIGN}.010], n = 1,200"),
        ({"versus": "", "value": 0.9, "lo": 0.85, "hi": 0.95}, "drizzle .900 [.850, .950], n = 1,200"),
        ({"why": "no row"}, "drizzle the Run has no such figure"),
        ({"why": "no interval", "lo": None, "hi": None}, "drizzle \N{MINUS SIGN}.050, n = 1,200; no interval"),
        ({"why": "few groups"}, "; too few groups to exclude a rare failure"),
    ],
)
def test_the_deciding_figure_stands_in_the_table(change: dict[str, Any], says: str) -> None:
    other = TEST | {"value": 9.0}
    regime = {"name": "drizzle", "answer": "yes", "deciding": 1, "tests": [other, TEST | change]}
    (line,) = claims.figures({"regimes": [regime]})
    assert says in line


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"name": "m", "parameters": 135e6, "quantisation": "Q4_1", "dtype": "float32"}, "m (135M, Q4_1)"),
        ({"name": "m", "parameters": 135e6, "quantisation": None, "dtype": "float32"}, "m (135M, float32)"),
        ({"name": None, "parameters": None, "quantisation": None, "dtype": None}, "no model"),
    ],
)
def test_the_model_is_named_with_its_precision(about: dict[str, Any], says: str) -> None:
    assert claims.model({"run": {"model": about}}) == says
    assert claims.model({"run": None}) == ""


def test_skipped_folders_are_counted() -> None:
    assert claims.skipped([]) == []
    two = [{"folder": "a", "reason": "x"}, {"folder": "b", "reason": "y"}]
    assert claims.skipped(two) == ["2 Run folders skipped:", "- a: x", "- b: y"]
