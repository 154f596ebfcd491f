"""How a command ends when its reader, its parent, its disk or a kill ends it; and what the next one finds."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from case_kit import QUICK, model_folder, table

from theodolite.core.run import Run, differences
from theodolite.core.watch import ending_with

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="sends POSIX signals and closes POSIX pipes, which Windows lacks"
)
COMMAND = [sys.executable, "-m", "theodolite"]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"THEODOLITE_CACHE": str(folder / "cache"), "LOKY_MAX_CPU_COUNT": "2"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endings")
    model_folder(folder / "m")
    table().to_csv(folder / "mine.csv", index=False)
    return folder


def line(out: str) -> list[str]:
    return [*COMMAND, "compare", "mine.csv", "--model", "m", *QUICK, "--out", out]


@pytest.mark.parametrize("words", [["data", "show", "harmful-intent"], ["--help"], ["data", "list"]])
def test_a_reader_that_closes_is_no_error(words: list[str]) -> None:
    """What `| head -1` does, at its earliest: nobody reads at all."""
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([*COMMAND, *words], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert ended.stderr == ""
    assert ended.returncode in (1, 141) if words == ["--help"] else ended.returncode == 141


def test_a_closed_error_output_is_no_traceback_either() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([*COMMAND, "data", "show", "nothing"], stdout=subprocess.PIPE, stderr=write, check=False)
    os.close(write)
    assert (ended.returncode, ended.stdout) == (2, b"")


PARENT = """
import os, sys, time
from joblib import Parallel, delayed, parallel_config
from theodolite.core.watch import ending_with

def work(i):
    open(f"worker-{os.getpid()}", "w").close()
    time.sleep(120)

if __name__ == "__main__":
    with parallel_config(backend="loky"):
        Parallel(n_jobs=2)(delayed(ending_with)(os.getpid(), work, (i,), {}) for i in range(2))
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(
    not Path("/proc/self/stat").is_file(), reason="finds child processes in /proc, which only Linux has"
)
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_command(tmp_path: Path, ending: int) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, "parent.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("worker-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name.partition("-")[2]) for path in tmp_path.glob("worker-*")]
    assert len(workers) == 2
    assert all(map(alive, workers))
    parent.send_signal(ending)
    parent.wait(timeout=30)
    deadline = time.monotonic() + 15
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [pid for pid in workers if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_work_in_the_command_itself_is_done() -> None:
    assert ending_with(os.getpid(), divmod, (7, 2), {}) == (3, 1)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_is_finished_by_the_same_command(place: Path) -> None:
    """Equal numbers as without the kills; two processes in one folder, of which one is refused or finds it finished."""
    subprocess.run(line("whole"), cwd=place, env=environment(place / "a"), check=True, capture_output=True)
    draw = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            line("killed"),
            cwd=place,
            env=environment(place / "b"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(draw.uniform(2, 7))
        process.kill()
        process.wait()
    both = [
        subprocess.Popen(line("killed"), cwd=place, env=environment(place / "b"), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [(process.communicate(timeout=200)[1], process.returncode) for process in both]
    assert 0 in {code for _, code in said}, said
    assert all(code == 0 or "another process is writing the run" in err for err, code in said), said
    killed, whole = Run.open(place / "killed"), Run.open(place / "whole")
    assert killed.finished
    assert differences(killed, whole) == []
    pd.testing.assert_frame_equal(killed.scores, whole.scores)
    assert not list((place / "killed").rglob(".*"))
