"""Work that is tried again in smaller parts when a device has no memory left for it."""

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

from theodolite.core.errors import UserError, first_line
from theodolite.core.sealed import Note, no_note

Result = TypeVar("Result")
# what torch says, in an error of its own or a plain RuntimeError: its allocators, cuBLAS, cuDNN
_WORDS = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device has no memory left.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory")), is_out_of_memory(RuntimeError("no"))
    (True, False)
    """
    said = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)
    return said or isinstance(error, MemoryError)


class Backoff:
    """A size of parts that is halved as long as the work runs out of memory.

    Later calls begin at the size that fitted. Each halving is counted in a note of the Run.

    what: the unit of the size, such as "tokens per batch". advice: what the user can do when the
    smallest part does not fit.

    >>> def work(size):
    ...     if size > 3:
    ...         raise RuntimeError("CUDA out of memory")
    ...     return size
    >>> batches = Backoff(8, "rows at once", "choose --device cpu")
    >>> batches(work), batches.size
    (2, 2)
    """

    def __init__(self, size: int, what: str, advice: str, note: Note = no_note) -> None:
        self.size, self.what, self.advice, self.note = size, what, advice, note

    def __call__(self, work: Callable[[int], Result], least: int = 1) -> Result:
        """Return the result of `work(size)`.

        least: smallest size worth trying; a part cannot be smaller, such as a batch that must hold the longest text.
        """
        while True:
            try:
                return work(self.size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                why = first_line(error)
            # after the except block: the error holds the frames that it passed through, and these hold tensors
            _free()
            if self.size <= least:
                raise UserError(
                    f"out of memory at {self.size} {self.what}, and no less can be tried ({why}): {self.advice}"
                )
            self.size = max(self.size // 2, least)
            self.note("memory", 1, f"halvings of {self.what} where memory ran out; the work was repeated from there")


def _free() -> None:
    """Free unused memory, also the memory of an accelerator that torch keeps for later."""
    gc.collect()
    torch = sys.modules.get("torch")  # this room does not import it
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
