"""Locks of the system's, which a process loses when it ends, by SIGKILL too."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zdce.errors import InputError


def lock(descriptor: int, *, wait: bool) -> bool | None:
    """Whether the open file or folder is this process's alone now; None where the system or the file system has no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """For as long as it lasts no other process gets in; the folder is made where there is none.

    Raises:
        ValueError: another is in it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder):
            yield
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()  # where nothing came of it


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if importlib.util.find_spec("fcntl") is None:  # on Windows, which opens no folders either
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if lock(descriptor, wait=False) is False:
            raise InputError(f"{folder}: another process is at work in it")
        yield
    finally:
        os.close(descriptor)
