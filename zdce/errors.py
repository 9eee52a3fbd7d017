"""Errors that are no bug of zdce: a wrong argument, wrong data, a file, the machine. Any other exception is a bug.

The command line shows these errors, and the system's own errors about files, as one line. For a bug it shows the traceback and
ends with exit code 70. ``ZDCE_DEBUG=1`` shows every traceback.
"""

import errno
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

BUG_EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h

REPORT = "Please report this bug to the project: the lines above and the output of `zdce info`."

# The system's errors that concern a disk or the whole machine and may come without a file's name.
_OF_THE_SYSTEM = {errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM} | {
    getattr(errno, name) for name in ("EDQUOT", "ESTALE") if hasattr(errno, name)
}

# Messages of torch's allocators and of C++ when memory runs out.
_NO_MEMORY = re.compile("can't allocate memory|bad_alloc|out of memory")


class ZdceError(Exception):
    """Base of all errors that are no bug; the message is one line for the user."""


class InputError(ZdceError, ValueError):
    """A wrong argument or wrong data; the message names it, what was expected and what was given."""


class FileError(ZdceError, OSError):
    """A file can't be read or written; the message names it."""


class MissingFileError(FileError, FileNotFoundError):
    """There is no file of that name."""


class BackendError(ZdceError, RuntimeError):
    """The requested backend can't run here."""


class ExistingFileError(FileError, FileExistsError):
    """A file of that name exists already."""


def one_line(error: BaseException) -> str:
    """The error's message in one line, without errno and file name; the name of its type if it has no message."""
    words = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(words.split())


def explanation(error: BaseException) -> str | None:
    """The line to show for ``error``; None if it is a bug."""
    if is_lack_of_memory(error):
        return "there is not enough memory"
    if isinstance(error, ZdceError):
        return " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {one_line(error)}"
    return one_line(error) if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM else None


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. On the CPU torch raises a plain RuntimeError, recognised by its message."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


@contextmanager
def library_call(kind: type[ZdceError] = FileError) -> Iterator[None]:
    """Turns any exception inside the ``with`` into a ``kind``. Only for calls of other libraries, which may raise anything when
    a file is broken.

    The system's errors about files, lack of memory and zdce's own errors pass unchanged.
    """
    try:
        yield
    except Exception as error:
        if explanation(error) is not None:
            raise
        raise kind(one_line(error)) from error


def debugging() -> bool:
    """Whether ``ZDCE_DEBUG`` asks for every traceback."""
    return os.environ.get("ZDCE_DEBUG", "0") not in ("", "0")


def formatted(error: BaseException) -> str:
    """The traceback of ``error`` and of its causes."""
    return "".join(traceback.format_exception(error)).rstrip()


def place(error: BaseException) -> tuple[str, str, int]:
    """Type, file and line of a bug, to recognise the same bug in many files."""
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    return type(error).__name__, frame[0].filename if frame else "", (frame[0].lineno or 0) if frame else 0
