"""Atomic file writes: a file is written under a temporary name in the same folder, then renamed.

The writing process locks its temporary file; the system releases the lock when the process ends, by SIGKILL too. Temporary
files without a lock are removed at the next write into the same folder.
"""

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from zdce import errors
from zdce.errors import FileError, ZdceError
from zdce.runtime import locks

# Name of a temporary file, with an identifier of the running system that made it.
_TEMPORARY = re.compile(r"(?s)\..*-[a-z0-9_]{8}\.zdce-([0-9a-f]{8})(\..*)?")

# Locks on network file systems may be visible on one system only: another system's file is removed if unchanged for this long.
_LEFT_SECONDS = 86400.0

_UMASK = re.compile(r"^Umask:\s*([0-7]+)$", re.MULTILINE)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Temporary path in the folder of ``path``, with its suffix; the file written there replaces ``path`` at the end of the
    block.

    If the block or the disk fails, an existing file stays unchanged and the temporary one is removed.

    Raises:
        FileError: the file can't be written; the message names ``path``, which the system's message about a full disk does not.
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
    # Named before it is made, so that an interrupt at any moment leaves no file.
    temporary, descriptor = _name_beside(path), None
    try:
        descriptor = _made(temporary)
        # Only the owner may read it so far: set the mode of an ordinary new file.
        os.fchmod(descriptor, 0o666 & ~_umask())
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _name_beside(path: Path) -> Path:
    """Path of no file, in the folder of ``path``."""
    while True:
        # Long names are shortened: with the additions they could be too long for the file system.
        name = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(4)}.zdce-{_system()}{path.suffix}")
        if not os.path.lexists(name):
            return name


def _made(temporary: Path) -> int:
    """Descriptor of a new empty file, locked if the file system has locks."""
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        locks.lock(descriptor, wait=True)
        # Another process may have removed the file before it was locked.
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


@cache  # once a process and folder: some hold a hundred thousand files
def _sweep(folder: Path) -> None:
    """Remove temporary files whose writing process has ended."""
    ours: list[tuple[os.DirEntry[str], re.Match[str]]] = []
    with suppress(OSError), os.scandir(folder) as entries:  # a folder may be writable but not readable
        ours = [(entry, match) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
    for entry, match in ours:
        with suppress(OSError):  # already renamed, or removed by another process
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
    """Eight hexadecimal digits that identify the running system, the same in all of its containers."""
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
    # The mask can only be read by setting it: for a moment, files of other threads are writable for everybody.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by a file of ``data``."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def copy(source: Path, path: Path) -> None:
    """Replace ``path`` by a file of the same bytes as ``source``."""
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by a UTF-8 file of ``text``."""
    write_bytes(path, text.encode())
