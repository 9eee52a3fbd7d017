"""Search for picture files by names, in folders and by patterns."""

import glob
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from zdce.errors import FileError, MissingFileError
from zdce.io.formats import SUFFIXES


@dataclass(frozen=True)
class Found:
    """A picture file.

    Attributes:
        path: its path.
        folder: the folder that was searched; None for files that were named or matched a pattern.
        named: whether the file itself was named.
    """

    path: Path
    folder: Path | None = None
    named: bool = False

    @property
    def place(self) -> Path:
        """Its path inside the searched folder, or its own name."""
        return Path(self.path.name) if self.folder is None else self.path.relative_to(self.folder)


def _refuse(error: OSError) -> None:
    raise error


def find(
    paths: Iterable[str],
    suffixes: frozenset[str] = SUFFIXES,
    unreadable: Callable[[OSError], object] = _refuse,
    *,
    recursive: bool = True,
) -> list[Found]:
    """Every picture that files, folders (searched through, hidden files left out) and patterns name, in order, each once: as
    named if it was named and also found otherwise.

    Args:
        suffixes: suffixes of pictures in folders and patterns; files that are named are always taken.
        unreadable: called for each folder that can't be read, with an error that names it.
        recursive: whether folders inside folders are searched too.

    Raises:
        FileNotFoundError: a path or pattern matches nothing.
        OSError: a folder can't be read; by default, ``unreadable`` raises it.
    """
    found: dict[Path, Found] = {}
    for text in paths:
        path = Path(text)
        # A file whose own name looks like a pattern, such as "IMG[1].jpg", is that file; so is a broken link.
        # An empty name, as of a shell's variable that is not set, is not the current folder.
        there = bool(text) and os.path.lexists(path)
        matches = [path] if there else [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        if not matches:
            raise MissingFileError(f"no such file or folder: {text or repr(text)}")
        for match in matches:
            if os.path.isdir(match):
                inside = in_folder(match, suffixes, unreadable, recursive=recursive)
                _add(found, (Found(one, match) for one in inside))
            elif match == path or match.suffix.lower() in suffixes:
                _add(found, [Found(match, named=match == path)])
    return list(found.values())


def _add(found: dict[Path, Found], more: Iterable[Found]) -> None:
    found.update((one.path, one) for one in more if one.named or one.path not in found or not found[one.path].named)


def in_folder(
    folder: Path,
    suffixes: frozenset[str] = SUFFIXES,
    unreadable: Callable[[OSError], object] = _refuse,
    *,
    recursive: bool = True,
) -> list[Path]:
    """The files below ``folder`` with one of ``suffixes``, in the string order of their paths; hidden ones are left out.

    ``unreadable`` is called for each folder that can't be read; by default it raises the error. If ``recursive``,
    folders inside are searched too.
    """

    def told(error: OSError) -> None:
        unreadable(FileError(f"{error.filename}: {error.strerror}"))

    pictures = []
    for place, folders, names in os.walk(folder, onerror=told):
        folders[:] = (name for name in folders if recursive and not name.startswith("."))
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() in suffixes and _may_be_picture(path):
                pictures.append(path)
    return sorted(pictures, key=lambda path: path.relative_to(folder).as_posix())


def _may_be_picture(path: Path) -> bool:
    """Whether it can be read as a picture, or fails with an error that names it; pipes, sockets and devices are ignored."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # A broken link, a link to itself, or a file that may not be accessed.
        return True
