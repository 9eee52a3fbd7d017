"""The bytes of a file without a copy in memory."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | mmap.mmap

# Bytes of a file that may be read at once.
_MOST_READ = 1 << 26


@contextmanager
def opened(source: Path | bytes) -> Iterator[Buffer]:
    """The bytes of ``source``: themselves, or those of a file, mapped where it is large.

    Raises:
        OSError: the file can't be read.
    """
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        # A mapped file that somebody cuts off meanwhile ends the process.
        if os.fstat(file.fileno()).st_size <= _MOST_READ:
            yield file.read()
            return
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError:  # it lies where nothing can be mapped
            yield file.read()
            return
        with mapped:
            yield mapped
