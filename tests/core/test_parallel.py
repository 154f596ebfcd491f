"""Maps: every item once, in workers that may die; from a script without a main guard."""

import subprocess
import sys
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky.process_executor import BrokenProcessPool

from theodolite.core.parallel import Processes, done_in_worker, serial

# No `if __name__ == "__main__"`: a worker that imported this script again would start workers of its own.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from theodolite.core.errors import UserError
from theodolite.core.parallel import Processes

calls, deadly = Path("calls"), int(sys.argv[1])  # how often item 3 ends its worker
calls.mkdir()

def build():
    def work(item):
        time.sleep(0.05)
        tries = len(list(calls.glob(f"{item}-*")))
        (calls / f"{item}-{tries}").touch()
        if item == 3 and tries < deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return item * 10
    return work

try:
    for result in Processes(2)(build, range(8)):
        print("result", result)
except UserError as error:
    print("error", error)
"""


def run(folder: Path, deadly: int) -> tuple[list[str], dict[int, int]]:
    """Lines that the script prints, and how often each item was tried."""
    (folder / "script.py").write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "script.py", str(deadly)], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    tried = [int(path.name.partition("-")[0]) for path in (folder / "calls").iterdir()]
    return ended.stdout.splitlines(), {item: tried.count(item) for item in set(tried)}


def test_a_script_without_a_guard_gets_every_result_though_a_worker_dies(tmp_path: Path) -> None:
    lines, tried = run(tmp_path, deadly=1)
    assert sorted(lines) == sorted(f"result {10 * i}" for i in range(8))
    assert tried.pop(3) == 2
    assert sum(n - 1 for n in tried.values()) <= 3, "only what was under way, or whose result was on its way"


def test_an_item_that_ends_every_worker_is_named(tmp_path: Path) -> None:
    lines, tried = run(tmp_path, deadly=99)
    assert [line for line in lines if line.startswith("error")] == [lines[-1]]
    assert lines[-1].startswith("error 3: each of 3 worker processes ended")
    assert "choose --engine serial" in lines[-1]
    assert tried[3] in (3, 4)


def test_serial_and_one_worker_do_the_items_in_order() -> None:
    for do in (serial, Processes(1)):
        assert list(do(lambda: abs, [-3, 2, -1])) == [3, 2, 1]


def test_a_worker_builds_once_until_another_build_comes() -> None:
    built: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Named) and self.name == other.name

        def __hash__(self) -> int:
            return hash(self.name)

        def __call__(self) -> object:
            built.append(self.name)
            return lambda item: f"{self.name}{item}"

    found = [done_in_worker(Named(name), 1) for name in "aabba"]
    assert found == ["a1", "a1", "b1", "b1", "a1"]
    assert built == ["a", "b", "a"]


def test_an_error_of_the_work_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        list(Processes(2)(partial(partial, truediv, 1), [1, 0]))


def test_work_that_a_worker_cannot_read_is_no_death_of_the_worker() -> None:
    with pytest.raises(BrokenProcessPool, match="un-serialize"):
        list(Processes(2)(_Unreadable(), [1, 0]))


class _Unreadable:
    """A build whose pickle fails where it is read."""

    def __reduce__(self) -> tuple:
        return int, ("not a number",)

    def __call__(self) -> Any: ...
