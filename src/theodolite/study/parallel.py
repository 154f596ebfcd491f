"""Work on all cores: one thread each, in processes that end with this one."""

import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from theodolite.core.tick import Tick
from theodolite.core.watch import ending_with


def in_parallel(work: Sequence[Any], total: int, tick: Tick) -> list[Any]:
    """Yield the results of joblib's delayed calls in the order they finish, on all cores with one thread each.

    Of `total`, all but these are done already. Workers end when this process does, also where it is killed.
    """
    from joblib import Parallel, delayed, parallel_config

    found: list[Any] = []
    tick(total - len(work), total)
    with warnings.catch_warnings(), parallel_config(backend="loky", inner_max_num_threads=1):
        warnings.filterwarnings("ignore", "A worker stopped while some jobs")  # grown by 300 MB, it is replaced
        with _interrupts_held():
            watched = [delayed(ending_with)(os.getpid(), *call) for call in work]
            results = Parallel(n_jobs=-1, return_as="generator_unordered")(watched)
        for result in results:
            found.append(result)
            tick(total - len(work) + len(found), total)
    return found


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start: they inherit it, and leave it to the command to stop and to say so."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
