"""Worker processes that end with the process that started them."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

EVERY = 0.5  # seconds between two looks at the parent
_watched: set[int] = set()  # parents that this process watches


def ending_with(parent: int, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do `work` in a worker that ends when the process `parent` does, also where that was killed.

    A worker whose parent is gone would go on to fit for hours, and its results would never be read. The parent of an
    orphan is another process, so looking who it is suffices on Linux and macOS; Windows names the dead one for ever.
    """
    if os.getpid() != parent and os.getppid() == parent and parent not in _watched:
        _watched.add(parent)
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    return work(*args, **kwargs)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(EVERY)
    os._exit(1)
