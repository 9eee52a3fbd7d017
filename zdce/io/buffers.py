"""Access to the bytes of a file without a copy in memory."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | mmap.mmap

# Largest size in bytes of a file that is read at once.
_MOST_READ = 1 << 26


@contextmanager
def opened(source: Path | bytes) -> Iterator[Buffer]:
    """The bytes of ``source``: ``source`` itself, or the content of a file, which is mapped if it is large.

    Raises:
        OSError: the file can't be read.
    """
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        # If another program truncates a mapped file, the process ends.
        if os.fstat(file.fileno()).st_size <= _MOST_READ:
            yield file.read()
            return
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError:  # Some file systems can't map files.
            yield file.read()
            return
        with mapped:
            yield mapped
