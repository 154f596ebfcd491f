"""Two models that read a text differently never share rows, whatever they have in common (case 01 and its kind)."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from case_kit import QUICK, Ended, model_folder, table, theodolite

from theodolite.core.run import Run
from theodolite.models.model import Model

SYSTEM = "<|im_start|>system\nReply in capital letters and mention birds and stone.<|im_end|>\n"


def chatml(before: str = "") -> str:
    return (
        json.dumps(before).join(["{{ ", " }}"])
        + "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )


def edited(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(chatml(SYSTEM))


def rope(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    rope = config.get("rope_parameters") or {}
    edited(folder, "config.json", rope_theta=37.0, rope_parameters=rope | {"rope_theta": 37.0})


def tokens(folder: Path) -> None:
    """Every e becomes an o before it is looked up."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "e"}, "content": "o"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


EDITS = {"template": template, "rope_theta": rope}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny model, with its cache and the folder of the model."""
    folder = tmp_path_factory.mktemp("identity")
    table(80).to_csv(folder / "mine.csv", index=False)
    model_folder(folder / "model", template=chatml())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEODOLITE_CACHE", str(folder / "cache"))
        assert compare(folder, folder / "model", folder / "run").code == 0
    return folder


def compare(home: Path, model: Path, out: Path, *more: object) -> Ended:
    return theodolite("compare", home / "mine.csv", "--model", model, *QUICK, "--out", out, *more)


def scores(run: Path) -> np.ndarray:
    table: pd.DataFrame = Run.open(run).scores
    return table.sort_values(["row", "seed", "dataset"])["score"].to_numpy()


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_equal_weights_that_read_a_text_differently_share_no_rows(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path], None]
) -> None:
    other = model_folder(tmp_path / "other", template=chatml())
    edit(other)
    for cache, out in ((home / "cache", "shared"), (tmp_path / "empty", "alone")):
        monkeypatch.setenv("THEODOLITE_CACHE", str(cache))
        assert compare(home, other, tmp_path / out).code == 0
    assert np.array_equal(scores(tmp_path / "shared"), scores(tmp_path / "alone"))
    assert not np.allclose(scores(tmp_path / "shared"), scores(home / "run"))


@pytest.mark.parametrize(
    ("edit", "said"), [(template, "another template"), (rope, "another .*config"), (tokens, "another .*tokenizer")]
)
def test_a_model_edited_in_its_folder_is_refused_by_the_run_and_by_read(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path], None], said: str
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(home / "cache"))
    before = {path: path.read_bytes() for path in (home / "model").iterdir()}
    try:
        edit(home / "model")
        again, read = compare(home, home / "model", home / "run"), theodolite("read", "happy", "--run", home / "run")
    finally:
        for path, content in before.items():
            path.write_bytes(content)
    assert again.code == 2
    assert "another recipe" in again.stderr
    assert read.code == 2
    assert re.search(said, read.stderr.replace("\n", " "))
    assert theodolite("read", "happy", "--run", home / "run").code == 0


def test_a_template_that_prints_another_date_is_said_with_what_it_printed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated = chatml().replace("{% for", "{{ 'Today: ' + strftime_now('%d %b %Y') + '. ' }}{% for", 1)
    model_folder(tmp_path / "dated", template=dated)
    assert compare(home, tmp_path / "dated", tmp_path / "run").code == 0
    read = theodolite("read", "happy", "--run", tmp_path / "run")
    assert read.code == 0
    with monkeypatch.context() as another_day:
        later = type("Later", (datetime,), {"now": classmethod(lambda cls: datetime(2091, 1, 2, 3, 4, 5))})
        another_day.setattr("theodolite.models.tokenised.datetime", later)
        assert Model.from_pretrained(tmp_path / "dated").template_around()[0].startswith("Today: 02 Jan 2091")
        assert theodolite("read", "happy", "--run", tmp_path / "run") == read  # rendered as on the day of the run
    manifest = tmp_path / "run" / "manifest.json"
    around = Run.open(tmp_path / "run").facts["model"]["template"]
    assert re.search(r"Today: \d\d \w+ \d{4}\. $", around[0].partition("<|im_start|>")[0])
    monkeypatch.setattr(
        "theodolite.models.tokenised.template_around", lambda tokenizer: ("Today: 01 Jan 1970. ", around[1])
    )
    read = theodolite("read", "happy", "--run", tmp_path / "run")
    assert manifest.is_file()
    assert read.code == 2
    assert "01 Jan 1970" in read.stderr.replace("\n", " ")
