"""Setting of glibc's allocator: keep large blocks, because fresh memory costs more time than the arithmetic on it."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Make this process reuse the large blocks that it frees; by default each large block is new, zeroed pages.

    An eager training step takes about half the time with it. Returns False if the C library has no such setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
