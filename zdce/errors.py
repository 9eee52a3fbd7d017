"""What goes wrong through no bug of zdce: a user's argument or data, a file, the machine. Any other exception is a bug.

The command line shows these, and the system's own errors about files, as one line; a bug shows its traceback and ends with exit
code 70. ``ZDCE_DEBUG=1`` shows every traceback.
"""

import errno
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

# What sysexits.h calls EX_SOFTWARE.
BUG_EXIT_CODE = 70

REPORT = "Please report this bug to the project: the lines above and the output of `zdce info`."

# What the system says of a disk or of itself, without naming a file.
_OF_THE_SYSTEM = {errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM} | {
    getattr(errno, name) for name in ("EDQUOT", "ESTALE") if hasattr(errno, name)
}

# How torch's allocators, and C++, say that there is no memory left.
_NO_MEMORY = re.compile("can't allocate memory|bad_alloc|out of memory")


class ZdceError(Exception):
    """The base of all errors that are no bug; the message is one line for the user."""


class InputError(ZdceError, ValueError):
    """A user's argument or data is wrong; the message names it, what was expected and what came."""


class FileError(ZdceError, OSError):
    """A file can't be read or written; the message names it."""


class MissingFileError(FileError, FileNotFoundError):
    """There is no file of that name."""


class BackendError(ZdceError, RuntimeError):
    """A backend was asked for that can't run here."""


class ExistingFileError(FileError, FileExistsError):
    """There is a file already where a new one would go."""


def one_line(error: BaseException) -> str:
    """The error's message, or the name of its type where it has none, without the number and name that the system's repeat."""
    words = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(words.split())


def explanation(error: BaseException) -> str | None:
    """The line that a user is shown of ``error``; None where it is a bug."""
    if is_lack_of_memory(error):
        return "there is not enough memory"
    if isinstance(error, ZdceError):
        return " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {one_line(error)}"
    return one_line(error) if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM else None


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch has a type of error for a GPU's only."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


@contextmanager
def library_call(kind: type[ZdceError] = FileError) -> Iterator[None]:
    """For the calls of another library alone: a broken file makes it raise whatever the bytes lead to, which becomes ``kind``.

    What the system says of a file, lack of memory and errors of ours pass as they are.
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
    """The traceback of ``error`` and of what led to it."""
    return "".join(traceback.format_exception(error)).rstrip()


def place(error: BaseException) -> tuple[str, str, int]:
    """Type, file and line of a bug: the same for the same bug in many files."""
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    return type(error).__name__, frame[0].filename if frame else "", (frame[0].lineno or 0) if frame else 0
