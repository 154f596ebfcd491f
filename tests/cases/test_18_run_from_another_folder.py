"""A Run is used from another folder, passed on without its user's paths, and says what is missing elsewhere."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from case_kit import Ended, model_folder, table, theodolite, workplace

from theodolite.core.run import Run
from theodolite.dictionaries import native
from theodolite.dictionaries.variants.topk import TopK
from theodolite.models.model import Model

SITE = "blocks.1.resid_post"
METHODS = ("difference_in_means", "logistic@latents", "lab/mine.py:Mine")
MINE = """
from theodolite.core.reader import LinearReader

class Mine(LinearReader):
    def _fit(self, rows, target_n):
        self.coef_ = rows[target_n == 1].mean(0) - rows[target_n == 0].mean(0)
        self.intercept_ = 0.0
"""


def trained(model: Path, folder: Path) -> None:
    """A dictionary that fits the rows of the table at the site."""
    read = Model.from_pretrained(str(model)).read(table().text.tolist(), SITE, positions="content", pooling=None)
    (rows,) = read.values()
    x = torch.from_numpy(rows.rows)
    found = TopK(32, width=64, k=16, lr=1e-2, seed=0).fit([x] * 60).dictionary()
    native.save(found, folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's folder with model, data, dictionary, method file and a Run of them, all given by relative paths."""
    with workplace(tmp_path_factory.mktemp("alice"), "work/m") as folder:
        table().to_csv("work/mine.csv", index=False)
        (folder / "lab").mkdir()
        (folder / "lab" / "mine.py").write_text(MINE)
        trained(folder / "work" / "m", folder / "work" / "sae")
        done = theodolite(
            "compare",
            "work/mine.csv",
            "--model",
            "work/m",
            "--sae",
            "work/sae",
            "--site",
            SITE,
            "--seeds",
            "2",
            "--method",
            *METHODS,
            "--out",
            "run",
        )
        assert done.code == 0, done.stderr
        yield folder


@pytest.fixture(autouse=True)
def _same_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(home / "cache"))


def read(run: Path, *words: object) -> Ended:
    return theodolite("read", "happy old mill", "--run", run, *words)


def score(ended: Ended) -> str:
    assert ended.code == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if "for the whole text" in line]
    return line


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_run_is_read_from_another_folder(home: Path, tmp_path: Path, method: str) -> None:
    assert tmp_path == Path.cwd()
    assert score(read(home / "run", "--method", method)).startswith(f"{method}: ")


def test_a_run_without_local_json_says_which_path_to_give(home: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("local.json")))
    missing = read(run)
    assert missing.code == 2
    assert "the run read 'm' from a path of the machine it was made on (local.json is missing)" in missing.stderr
    assert "give it with --model PATH" in missing.stderr
    both = ("--model", home / "work" / "m", "--sae", home / "work" / "sae")
    assert score(read(run, "--method", METHODS[0], *both[:2]))  # no dictionary is needed for it
    assert "give it with --sae PATH" in read(run, "--method", METHODS[1], *both[:2]).stderr
    for method in METHODS[:2]:
        assert score(read(run, "--method", method, *both)) == score(read(home / "run", "--method", method))


def test_a_model_or_dictionary_that_moved_is_given_and_another_refused(home: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(home / "run", tmp_path / "run"))
    local = json.loads((run / "local.json").read_text())
    moved = {name: str(tmp_path / "gone" / name) for name in local["paths"]}
    (run / "local.json").write_text(json.dumps(local | {"paths": moved}))
    assert "which is gone: give it with --" in read(run).stderr
    shutil.copytree(home / "work", tmp_path / "new")
    given = ("--model", "new/m", "--sae", "new/sae")
    assert score(read(run, "--method", METHODS[1], *given)) == score(read(home / "run", "--method", METHODS[1]))
    other = model_folder(tmp_path / "other", seed=1)
    assert "put the old weights back" in read(run, "--model", other, "--sae", "new/sae").stderr
    (_, weights) = (shutil.copytree(tmp_path / "new" / "sae", tmp_path / "sae2"), torch.randn(64, 32))
    native.save(TopK(32, width=64, k=16, seed=3).fit([weights]).dictionary(), tmp_path / "sae3")
    refused = read(run, "--method", METHODS[1], "--model", "new/m", "--sae", "sae3")
    assert "was fitted on the dictionary sae-" in refused.stderr
    assert "give it with --sae" in refused.stderr


def test_a_method_of_ones_own_is_given_as_its_file(home: Path, tmp_path: Path) -> None:
    asked = read(home / "run", "--method", "mine.py:Mine")
    assert "no file 'mine.py'" in asked.stderr
    assert score(read(home / "run", "--method", home / "lab" / "mine.py:Mine")).startswith("mine.py:Mine: ")
    assert score(read(home / "run", "--method", home / "lab" / "mine.py")).startswith("mine.py:Mine: ")
    shutil.copy(home / "lab" / "mine.py", tmp_path / "renamed.py")  # the same code, wherever it lies
    assert score(read(home / "run", "--method", "renamed.py:Mine")).startswith("mine.py:Mine: ")
    (tmp_path / "mine.py").write_text(MINE + "\nX = 1\n")
    assert "give that file, or compare again with this one" in read(home / "run", "--method", "mine.py:Mine").stderr
    assert "unknown method of this run" in read(home / "run", "--method", "mine.py:Other").stderr


def test_what_may_be_passed_on_names_no_folder_of_the_user(home: Path, tmp_path: Path) -> None:
    assert theodolite("report", home / "run", "--format", "csv").code == 0
    assert theodolite("report", home / "run", "--format", "latex").code == 0
    assert theodolite("report", home / "run", "--format", "svg").code == 0
    run = Path(shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("local.json")))
    found = [path for path in run.rglob("*") if path.is_file()]
    assert len(found) > 12
    for path in found:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += pd.read_parquet(path).to_csv().encode()
        for secret in (str(home), "alice", "work/", "lab/", str(Path.home()) + "/"):
            assert secret.encode() not in content, (path, secret)
    manifest = Run.open(run).manifest
    assert manifest["recipe"]["model"] == "m"
    assert manifest["command"].split()[:5] == ["theodolite", "compare", "mine.csv", "--model", "m"]
    assert set(manifest["local"]) == {"m", "mine.csv", "sae", "mine.py"}
    assert not (json.loads((home / "run" / "local.json").read_text()).keys() ^ {"command", "paths"})
    rows = Run.open(run).rows
    assert set(rows["method"]) >= {"difference_in_means", "logistic@latents", "mine.py:Mine"}
    assert set(rows["model"]) == {"m"}
