"""Locks that the system releases when a process ends, by SIGKILL too.

Not by filelock: it locks a file of its own, which would be left in the folder; here the folder itself is locked.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zdce.errors import InputError


def lock(descriptor: int, *, wait: bool) -> bool | None:
    """Lock an open file or folder: True if it is locked now, False if another process has it, None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock ``folder`` against other processes for the length of the block; a missing folder is made, and removed if left empty.

    Raises:
        InputError: another process has the lock.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder):
            yield
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if importlib.util.find_spec("fcntl") is None:  # on Windows, which opens no folders either
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if lock(descriptor, wait=False) is False:
            raise InputError(f"{folder}: another process is using it")
        yield
    finally:
        os.close(descriptor)
