"""Freed memory kept for the next step: what training needs from the C library, and no other program should be given.

A large temporary is mapped by the system, faulted in page by page, and returned when it is freed; the next step does
it all again. In dense training steps of 4,096 rows and 16,384 latents that takes as long as the computation.
"""

import ctypes
import platform

# numbers of malloc.h in glibc
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
NEVER = 2**31 - 1  # the largest size that mallopt, whose argument is an int, can be told: 2 GB
GROW_BY = 2**28  # the heap grows by 256 MB at a time


def keep_freed_memory() -> bool:
    """Let this process keep memory it has freed, up to the end; whether its C library can (glibc can).

    Blocks of up to 2 GB come from the heap and stay there, so a process holds on to its largest working set. Call it
    at the start of a process that trains; nothing here does on import.

    >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    True
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    unmapped = mallopt(M_MMAP_THRESHOLD, NEVER) or mallopt(M_MMAP_MAX, 0)  # old ones refuse thresholds above 32 MB
    return bool(unmapped and mallopt(M_TRIM_THRESHOLD, NEVER) and mallopt(M_TOP_PAD, GROW_BY))
