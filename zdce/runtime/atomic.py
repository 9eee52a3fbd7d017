"""Files appear whole or not at all: written beside, then renamed into place.

Whoever writes holds a lock on the temporary file, which the system takes from a process that ends, by SIGKILL too. What nobody
holds any more goes when anything is written in the same folder.
"""

import hashlib
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from zdce import errors
from zdce.errors import FileError, ZdceError
from zdce.runtime import locks

# A temporary file's name, with that of the system that it was made on.
_TEMPORARY = re.compile(r"(?s)\..*-[a-z0-9_]{8}\.zdce-([0-9a-f]{8})(\..*)?")

# Network file systems may know the locks of one system alone. Another's file is left when it was not written to for so long.
_LEFT_SECONDS = 86400.0

_UMASK = re.compile(r"^Umask:\s*([0-7]+)$", re.MULTILINE)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``, with its suffix; what was written there takes its place at the end of the block.

    Where the block or the disk fails, a former file stays as it was and the temporary one is removed.

    Raises:
        OSError: the file can't be written; the message names ``path``, which what the system says of a full disk does not.
    """
    try:
        with _temporary(path) as temporary:
            yield temporary
    except ZdceError:
        raise
    except OSError as error:
        if errors.explanation(error) is None:
            raise
        raise FileError(f"{path}: {errors.one_line(error)}") from error


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent.absolute())
    descriptor, temporary = _made_beside(path)
    try:
        # mkstemp makes files that only their owner may read: give them the mode that an ordinary new file has.
        os.fchmod(descriptor, 0o666 & ~_umask())
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _made_beside(path: Path) -> tuple[int, Path]:
    """An empty file that this process has locked, where it can, and the descriptor that holds the lock."""
    while True:
        # Of a long name only a part: with what is added it would be too long.
        descriptor, name = tempfile.mkstemp(f".zdce-{_system()}{path.suffix}", f".{path.stem[:40]}-", path.parent)
        locks.lock(descriptor, wait=True)
        # Between these lines others may have found it without a lock.
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)


@cache  # once a process and folder: some hold a hundred thousand files
def _sweep(folder: Path) -> None:
    """Removes the temporary files that nobody writes any more."""
    ours: list[tuple[os.DirEntry[str], re.Match[str]]] = []
    with suppress(OSError), os.scandir(folder) as entries:  # a folder that takes files may show none
        ours = [(entry, match) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
    for entry, match in ours:
        with suppress(OSError):  # it is in its place by now, or somebody else's to remove
            if match[1] == _system() or time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFT_SECONDS:
                _remove_unlocked(entry.path)


def _remove_unlocked(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if locks.lock(descriptor, wait=False):
            os.unlink(path)
    finally:
        os.close(descriptor)


@cache
def _system() -> str:
    """Eight digits that are this running system's, whatever the container."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _umask() -> int:
    try:
        if found := _UMASK.search(Path("/proc/self/status").read_text(errors="replace")):
            return int(found[1], 8)
    except OSError:
        pass
    # To ask is to set: files that other threads make in between are everybody's to write.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces ``path`` by a file of ``data``."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replaces ``path`` by a UTF-8 file of ``text``."""
    write_bytes(path, text.encode())
