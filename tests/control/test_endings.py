"""A comparison of control methods that is killed at any moment, or runs twice at once, has the numbers of one run."""

import itertools
import os
import random
import signal
import time
import traceback
from pathlib import Path

import pytest

import theodolite
from theodolite.control import analysis, ground
from theodolite.core import atomic
from theodolite.core.errors import UserError
from theodolite.core.run import Run, differences
from theodolite.data.sources import packaged
from theodolite.models.model import Model
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process, and Windows has no fork")
RECIPE = """
kind: steer
name: tiny
title: Which method steers a tiny model?
concept: mini.yaml
site: blocks.1.resid_post
methods: [difference_in_means, lat]
contrasts: [{method: difference_in_means, than: lat}]
nats: [0.1]
openings: 10
disturbance_texts: 8
written_tokens: 2
draws: 10
draws_elsewhere: 0
draws_written: 0
nulls: 0
"""
CONCEPT = """
name: mini
title: French with targets of one token
positive: French
negative: English
texts: {file: '%s', group: group}
targets: {positive: [q], negative: [x]}
"""
NUMBER = itertools.count()
MEASURED, DRAWN = "strengths and effects", "random directions"  # the stages that keep what they found


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(tiny_model(), byte_tokenizer(), name="tiny")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "mini.yaml").write_text(CONCEPT % (packaged.folder() / "french.csv"))
    monkeypatch.setattr(ground, "DAMAGE_TEXTS", 4)
    monkeypatch.setattr(ground, "fit_classifiers", lambda texts, labels, groups: ())
    monkeypatch.setattr(atomic, "CHUNK", 256)  # an entry of the cache takes several writes, so that some are cut
    return tmp_path


class Child:
    """A forked process that compares into `out` with a cache of its own or a shared one; it is waited for once.

    stage: from there on each report of its progress is a byte in a pipe, and the steps of its writes are counted: it
    dies as abruptly as by a kill at the step `dies`.
    """

    def __init__(self, place: Path, model: Model, out: str, cache: str = "cache", stage: str = "", dies: int = 0):
        self.said, self.told = place / f"said-{next(NUMBER)}.txt", os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(self.told[1])
            return
        code = 1
        try:
            os.environ["THEODOLITE_CACHE"] = str(place / cache)
            here: set[str] = set()

            def tell(now: str, done: int, total: int) -> None:
                if stage and now.startswith(stage) and not here:
                    here.add(now)
                    atomic._steps, atomic._crash_at = itertools.count(1), dies
                if here:
                    os.write(self.told[1], b"!")

            theodolite.compare(place / "tiny.yaml", model=model, sae="none", out=place / out, progress=tell)
            code = 0
        except UserError as error:
            self.said.write_text(str(error))
            code = 2
        except BaseException:
            self.said.write_text(traceback.format_exc())
        finally:
            os._exit(code)  # never back into the tests

    def end(self, kill: random.Random | None = None) -> tuple[int, str]:
        """Return the exit code and what was said; kill: draws after which report, and how long after, it is killed."""
        if kill is not None:
            for _ in range(kill.randint(1, 4)):
                os.read(self.told[0], 1)  # also returns when the process has ended
            time.sleep(kill.uniform(0, 0.05))
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.told[0])
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code, self.said.read_text() if self.said.is_file() else ""


def artefacts(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run.folder / "artefacts").iterdir()}


@pytest.mark.slow
def test_kills_and_a_second_process_change_no_number(place: Path, model: Model) -> None:
    assert Child(place, model, "whole", cache="other").end() == (0, "")
    whole, draw = Run.open(place / "whole"), random.Random(0)
    for stage in (MEASURED, DRAWN):
        # inside a write: of the next entry of the stage, or of something later where all of its entries are there
        code, said = Child(place, model, "killed", stage=stage, dies=draw.randint(2, 5)).end()
        assert (code, said) == (137, "") or Run.open(place / "killed").finished
        if stage == MEASURED:
            assert any(path.stat().st_size for path in (place / "cache").rglob("*.tmp")), "no entry was cut"
        Child(place, model, "killed", stage=stage).end(kill=draw)

    same, second, beside = (Child(place, model, out) for out in ("killed", "killed", "beside"))
    ended = [same.end(), second.end()]
    assert (0, "") in ended, ended
    assert all(code == 0 or "another process" in said for code, said in ended), ended
    assert beside.end() == (0, "")
    for run in (Run.open(place / "killed"), Run.open(place / "beside")):
        assert run.finished
        assert differences(run, whole) == []
        assert artefacts(run) == artefacts(whole)
        assert run.notes == whole.notes  # no entry was damaged and made again
        assert not list(run.folder.rglob(".*"))
    assert not list((place / "cache").rglob("*.tmp"))
    assert len(list((place / "cache" / analysis.CACHE).iterdir())) == len(
        list((place / "other" / analysis.CACHE).iterdir())
    )


def test_a_run_that_another_process_finished_meanwhile_stays_as_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Run.create(place / "run", {"name": "tiny"}, "e" * 64) for _ in range(2))
    with one.alone():
        one.finish()
    found = (place / "run" / "manifest.json").read_bytes()
    with (
        pytest.raises(UserError, match=r"another process has finished the run in .*run the same command again"),
        other.alone(),
    ):
        other.finish()
    assert (place / "run" / "manifest.json").read_bytes() == found


def test_a_folder_that_another_process_took_back_is_one_error(place: Path) -> None:
    one, other = (Run.create(place / "run", {"name": "tiny"}, "e" * 64) for _ in range(2))
    with one.alone():
        one.withdraw()  # its request was wrong
    with pytest.raises(UserError, match=r"another process has removed .*run the same command again"), other.alone():
        pass
