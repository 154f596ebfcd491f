"""One interface for work in this process, in other processes or on Ray: `Map`."""

import os
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from theodolite.core.errors import UserError
from theodolite.core.watch import ending_with

TRIES = 3  # workers that one item may end before the whole work stops with an error
_IDLE = 300  # seconds after which a worker without work ends
_THREADS = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA", "NUMEXPR")]
_THREADS += ["VECLIB_MAXIMUM_THREADS"]
Work = Callable[[Any], Any]
Build = Callable[[], Work]
_last: list[tuple[Build, Work]] = []  # of this worker: the build it met last, and what that made


class Map(Protocol):
    """Callable that does `build()(item)` for every item and yields the results in the order in which they finish.

    `build` and the items are pickled where another process does the work. A worker calls `build` once, and again only
    for a build that is not equal (==) to the last one: so a model is loaded once per worker. If a worker dies, another
    one repeats its items, and perhaps a few that had finished but were not yielded: long work should look on disk for
    its result first. What was yielded is not repeated. An item that ends `TRIES` workers stops the whole work with a
    `UserError` that names it (its `str`). An error that the work raises is raised here.

    >>> sorted(serial(lambda: abs, [-2, 1]))
    [1, 2]
    """

    def __call__(self, build: Build, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the results."""
        ...


def serial(build: Build, items: Sequence[Any]) -> Iterator[Any]:
    """Do the work in this process, in the order of the items."""
    yield from map(build(), items)


class Processes:
    """A `Map` over worker processes of one thread each (loky); they end with this process, even if it is killed.

    workers: number of processes; None takes all cores. A script that uses it needs no `if __name__ == "__main__"`.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def __call__(self, build: Build, items: Sequence[Any]) -> Iterator[Any]:
        """Yield the results; see `Map`."""
        from joblib import cpu_count

        workers = self.workers or cpu_count()
        if workers == 1:
            yield from serial(build, items)
            return
        waiting = dict(enumerate(items))
        deaths: Counter[int] = Counter()
        alone: list[int] = []
        while waiting:
            # One of the items under way has ended the worker. Run one at a time, that item is identified with
            # certainty, and the others are not counted as failures.
            numbers = alone[:1] or list(waiting)
            with tempfile.TemporaryDirectory() as marks:
                calls = {number: (build, marks, number, waiting[number]) for number in numbers}
                for number, result in _in_pool(calls, workers):
                    del waiting[number]
                    yield result
                left = [number for number in numbers if number in waiting]
                under_way = [number for number in left if (Path(marks) / str(number)).exists()]
            suspects = under_way or left[:1]  # a worker died between two items: begin with any of them
            if len(suspects) == 1:
                deaths.update(suspects)
                if deaths[suspects[0]] >= TRIES:
                    raise worker_died(waiting[suspects[0]])
            alone = [number for number in alone if number in waiting] or suspects


def worker_died(item: Any) -> UserError:
    """Return the error for an item that ended each worker that tried it."""
    return UserError(
        f"{item}: each of {TRIES} worker processes ended while it did this (out of memory is the usual cause): close "
        "other programs, or choose --engine serial, which works in one process"
    )


def done_in_worker(build: Build, item: Any) -> Any:
    """Return the result of one item, in a worker that keeps what the last build made."""
    if not _last or _last[0][0] != build:
        _last.clear()  # it may hold a model: free it before the next one is loaded
        _last.append((build, build()))
    return _last[0][1](item)


def _marked(build: Build, marks: str, number: int, item: Any) -> tuple[int, Any]:
    """Return the number and result of one item; while it is under way, the folder `marks` holds a file of that name."""
    mark = Path(marks) / str(number)
    mark.touch()
    result = done_in_worker(build, item)
    mark.unlink()
    return number, result


def _in_pool(calls: Mapping[int, tuple[Any, ...]], workers: int) -> Iterator[tuple[int, Any]]:
    """Yield numbers and results until all are done or a worker dies; the executor then ends all its workers."""
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")  # grown by 300 MB, it is replaced
        with _interrupts_held():
            executor = get_reusable_executor(workers, timeout=_IDLE, env=dict.fromkeys(_THREADS, "1"))
            futures = {executor.submit(ending_with, os.getpid(), _marked, call, {}) for call in calls.values()}
        try:
            for future in as_completed(futures):
                futures.remove(future)
                with suppress(TerminatedWorkerError):
                    yield future.result()
        finally:
            if futures:  # an error of the work, Ctrl-C, or a caller that wants no more
                executor.shutdown(kill_workers=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block Ctrl-C while workers start: they inherit the block, so that only the command itself reacts and reports."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
