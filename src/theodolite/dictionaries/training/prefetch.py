"""The next block is made in a thread while the present one is used."""

import threading
from collections.abc import Callable
from queue import Queue
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls of one function, in order, at most one of them ahead of whoever takes the results.

    `begin()` starts the next call in the thread; `take()` waits for it, or makes the call itself if none was begun. So
    the caller decides whether there is a next one, and nothing is made in vain. What the call raises, `take` raises,
    once. Only one call runs at a time, and torch gives the thread the caller's number of threads: the results are the
    ones that calls without a thread give.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._thread: threading.Thread | None = None
        self._result: Queue[tuple[T | None, BaseException | None]] = Queue(1)

    def begin(self) -> None:
        """Start the next call, unless one is on its way."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="prefetch")
            self._thread.start()

    def take(self) -> T:
        """The next result, in the order of the calls."""
        if self._thread is None:
            return self._make()
        value, error = self._result.get()
        self._join()
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # there is a value wherever there is no error

    def close(self) -> None:
        """Wait for the call on its way, if any, and forget its result."""
        if self._thread is not None:
            self._result.get()
            self._join()

    def _join(self) -> None:
        assert self._thread is not None
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        try:
            self._result.put((self._make(), None))
        except BaseException as error:  # whatever it is, the caller's thread is where it belongs
            self._result.put((None, error))
