"""Files appear whole or not at all: written beside, then renamed into place."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    except OSError as error:
        raise OSError(f"{path}: {error.strerror or error}") from error


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of a long name only a part: with what is added it would be too long.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    try:
        # mkstemp makes files that only their owner may read: give them the mode that an ordinary new file has.
        os.fchmod(descriptor, 0o666 & ~_umask())
        os.close(descriptor)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
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
