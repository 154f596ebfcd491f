"""What came out is said of what the run read: a dictionary with a card, one without, or rows that were given."""

from collections.abc import Callable
from pathlib import Path

import pytest
from planted_run import FACTS, PRIMARY, VERDICT, contrast, row

from theodolite.core.run import LEFT_OUT, Run
from theodolite.report import context, findings, html, prose
from theodolite.report.blocks import Figure, Table, Text
from theodolite.report.sheet import Sheet

Build = Callable[..., Run]
ROWS = [row("logistic", PRIMARY), row("logistic@latents", PRIMARY)]


def test_sae_rows_without_a_card_are_not_denied(build: Build, tmp_path: Path) -> None:
    measured = {"hub:a/b": {"train": 0.25, PRIMARY: 0.4}}
    shown = Sheet(build(tmp_path, only=ROWS, card=None, facts={"fvu": measured}))
    assert dict(findings.subject(shown))["Dictionary"] == "hub:a/b without a card"
    said, errors = context.dictionary(shown).blocks
    assert isinstance(said, Text)
    assert isinstance(errors, Table)
    assert said.words.startswith("It came without a card")
    assert [[cell.words for cell in line.cells] for line in errors.lines] == [
        ["hub:a/b", "train", ".250"],
        ["hub:a/b", PRIMARY, ".400"],
    ]
    assert "No k-sparse reader was fitted" in findings.how_many(shown).blocks[0].words


@pytest.mark.parametrize(
    ("rows", "said"), [(ROWS, "4,096 latents trained on 2.05M tokens"), (ROWS[:1], "4,096 latents trained")]
)
def test_a_card_says_what_the_latents_come_from(build: Build, tmp_path: Path, rows: list, said: str) -> None:
    assert dict(findings.subject(Sheet(build(tmp_path, only=rows))))["Dictionary"].startswith(said)


def test_a_run_without_a_dictionary_has_no_sae_rows(build: Build, tmp_path: Path) -> None:
    shown = Sheet(build(tmp_path, only=ROWS[:1], card=None))
    assert dict(findings.subject(shown))["Dictionary"] == "none: no SAE rows in this run"
    assert "nothing here speaks for or against SAEs" in context.dictionary(shown).blocks[0].words


def test_a_shift_whose_name_ends_like_a_pair_is_no_left_out_source(build: Build, tmp_path: Path) -> None:
    names = ("rho vs edgy", f"{LEFT_OUT}rho vs edgy")
    rates = [row("logistic", name, metric="tpr@0.05", value=0.8) for name in names]
    sheet = Sheet(build(tmp_path / "run", extra=rates, recipe={"shifts": {"edgy": {"over_refusal": True}}}))
    captions = [block.caption for block in findings.refusal(sheet).blocks if isinstance(block, Table)]
    assert [caption.partition(",")[0] for caption in captions] == ["Edgy", "Leave-one-source-out:rho vs edgy"]


def test_a_fixed_contrast_without_a_score_leaves_the_page_whole(build: Build, tmp_path: Path) -> None:
    """A tokenizer that cannot be asked leaves a baseline without any score: the run is done, and its page is due."""
    nothing = contrast("lat", 0.0, 0.0, 1.0, 1.0, "undecided", {"code": "unscored"}) | {
        "value": None,
        "lo": None,
        "hi": None,
        "n": 0,
        "n_groups": 0,
    }
    run = build(tmp_path, verdict=VERDICT | {"contrasts": [*VERDICT["contrasts"], nothing]})
    (figure,) = [b for b in findings.verdict(Sheet(run)).blocks if isinstance(b, Figure)]
    assert [text.get_text() for text in figure.chart.axes[0].texts].count("undecided") == 2
    assert "nothing was scored" in html.write(run).read_text()
    assert findings.sentence(Sheet(run), nothing).endswith("undecided (nothing was scored).")


def test_the_margin_is_written_as_it_was_asked_for(build: Build, tmp_path: Path) -> None:
    """Rounded to three places, .0125 is .013 and .0004 is 0: another margin than that of the words beside it."""
    for margin, words in ((0.0125, ".0125"), (0.0004, ".0004")):
        facts = {"protocol": FACTS["protocol"] | {"margin": margin}}
        shown = Sheet(build(tmp_path / words, facts=facts))
        assert f"a difference within {words} counts as equivalent" in prose._decided(shown, {})
        (figure,) = [b for b in findings.verdict(shown).blocks if isinstance(b, Figure)]
        assert f"shaded: within {words} of zero" in figure.chart.axes[0].get_xlabel()
