"""`data audit` and `data verify`: a file or a recipe, judged before any model runs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from theodolite import cli
from theodolite.core.errors import UserError
from theodolite.core.recipe import Source
from theodolite.study.auditing import audit, verify

LETTERS = list("abcdefghijklmnopqrstuvwxy")
LABELS = [0, 1] * 30


def texts(seed: int) -> list[str]:
    """Random words, so that no text resembles another; those of label 1 hold one word more."""
    rng = np.random.default_rng(seed)
    return [" ".join([*map("".join, rng.choice(LETTERS, (7, 6))), "zzz"][: 7 + y]) for y in LABELS]


@pytest.fixture
def recipe(tmp_path: Path, write_source: Callable[..., Source]) -> Callable[..., str]:
    """Path of a recipe with one training set, one shift, and whatever else is given."""

    def write(**more: object) -> str:
        train, later = (write_source(name, texts(seed), LABELS).model_dump() for seed, name in enumerate(("a", "b")))
        fields = {"name": "toy", "title": "toy", "positive": "1", "negative": "0", "question": "?"}
        fields |= {"train": [train], "shifts": {"later": {"rows": [later]}}}
        (tmp_path / "toy.yaml").write_text(yaml.safe_dump(fields | more))
        return str(tmp_path / "toy.yaml")

    return write


def test_a_file_is_audited_by_its_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pd.DataFrame({"prompt": texts(0), "bad": LABELS}).to_csv(path, index=False)
    (overview,) = audit(str(path), text="prompt", label="bad").overviews
    assert (overview.n, overview.n_positive) == (60, 30)
    with pytest.raises(UserError, match="bad"):
        audit(str(path), text="prompt")


def test_a_recipe_is_audited_with_its_shifts(recipe: Callable[..., str]) -> None:
    found = audit(recipe())
    assert [overview.n for overview in found.overviews] == [60, 60]
    assert found.shortcuts.shortcuts[0].name == "zzz"


@pytest.mark.parametrize(
    ("private", "flags", "shown"), [(False, [], True), (True, [], False), (True, ["--show-text"], True)]
)
def test_words_of_a_private_recipe_need_show_text(
    recipe: Callable[..., str], capsys: pytest.CaptureFixture[str], private: bool, flags: list[str], shown: bool
) -> None:
    cli.app(["data", "audit", recipe(private=private), *flags], exit_on_error=False, result_action="return_value")
    assert ("zzz" in capsys.readouterr().out) == shown


def test_words_of_ones_own_file_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.csv"
    pd.DataFrame({"text": texts(0), "label": LABELS}).to_csv(path, index=False)
    cli.app(["data", "audit", str(path)], exit_on_error=False, result_action="return_value")
    assert "zzz" in capsys.readouterr().out


def test_verify_gives_a_line_per_source(recipe: Callable[..., str]) -> None:
    lines = list(verify(recipe()))
    assert len(lines) == 2
    assert all("60 rows  label 0: 30, label 1: 30" in line for line in lines)
    assert [line.split()[:2] for line in lines] == [["train", "a"], ["later", "b"]]


def test_verify_reads_all_sources_before_it_fails(recipe: Callable[..., str], tmp_path: Path) -> None:
    path = recipe()
    (tmp_path / "a.jsonl").unlink()
    lines = verify(path)
    assert "a.jsonl" in next(lines)
    assert "60 rows" in next(lines)
    with pytest.raises(UserError, match="1 of 2 sources cannot be read: a"):
        next(lines)
