"""glibc's allocator, told to keep large blocks: fresh memory costs more than the arithmetic on it."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Makes this process reuse the large blocks it frees; without that, each one is new, zeroed pages.

    An eager training step takes about half the time then. Gives whether the C library is one that can be told.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
