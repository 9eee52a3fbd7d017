"""Files that arrive in folders, reported when they are complete, together with the files that are there already."""

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import NamedTuple

from zdce.errors import FileError, library_call
from zdce.io import images
from zdce.io.images import Found
from zdce.runtime import packages, progress

# Seconds for which size and time of a file must stay the same before it counts as complete. A copy that pauses for longer is
# found to be broken, and tried again when it changes.
SETTLED = 1.0

# Seconds between searches of whole folders, which find files that the system does not report, as on network file systems.
RESCAN = 60.0

# Milliseconds between checks of files that may still grow.
_TICK = 250


class _State(NamedTuple):
    """Attributes that change with a file's content."""

    size: int
    modified: int
    inode: int


class Arrivals:
    """Files of ``folders`` that are complete, and new or changed since they were reported.

    Args:
        folders: folders to search.
        suffixes: suffixes of the reported files; hidden files are ignored.
        recursive: whether the folders inside are searched too.
    """

    def __init__(self, folders: Sequence[Path], suffixes: frozenset[str], *, recursive: bool) -> None:
        # By real paths, as the system reports them.
        self.folders = {Path(os.path.realpath(folder)): folder for folder in folders}
        self._suffixes, self._recursive = suffixes, recursive
        self._growing: dict[Path, tuple[Found, _State, float]] = {}
        self._told: dict[Path, _State] = {}

    def search(self, now: float) -> None:
        """Notes all files of the folders.

        Raises:
            OSError: a folder is gone.
        """
        there = set()
        for folder in self.folders.values():
            if not folder.is_dir():
                raise FileError(f"{folder}: this folder is gone")
            for path in images.in_folder(folder, self._suffixes, pass_over, recursive=self._recursive):
                self._note(Found(path, folder), now)
                there.add(path)
        self._told = {path: state for path, state in self._told.items() if path in there}

    def note(self, paths: Iterable[Path], now: float) -> None:
        """Notes files, by their real paths, that were reported."""
        for path in paths:
            for real, folder in self.folders.items():
                if path.is_relative_to(real) and self._counts(place := path.relative_to(real)):
                    self._note(Found(folder / place, folder), now)
                    break

    def whole(self, now: float) -> list[Found]:
        """The noted files that have not changed for ``SETTLED`` seconds, each once for each of its states, in order."""
        for found, _, _ in list(self._growing.values()):
            self._note(found, now)
        settled = [path for path, (_, _, since) in self._growing.items() if now - since >= SETTLED]
        arrived = []
        for path in sorted(settled):
            found, self._told[path], _ = self._growing.pop(path)
            arrived.append(found)
        return arrived

    def _note(self, found: Found, now: float) -> None:
        try:
            status: os.stat_result | None = os.stat(found.path)
        except OSError:  # Removed or renamed.
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):  # Reading a pipe would wait for its writer.
            self._growing.pop(found.path, None)
            return
        state = _State(status.st_size, status.st_mtime_ns, status.st_ino)
        before = self._growing.get(found.path)
        if state != self._told.get(found.path) and (before is None or before[1] != state):
            self._growing[found.path] = found, state, now

    def _counts(self, place: Path) -> bool:
        deep = len(place.parts) > 1
        hidden = any(part.startswith(".") for part in place.parts)
        return place.suffix.lower() in self._suffixes and not hidden and (self._recursive or not deep)


def pass_over(error: OSError) -> None:
    """Names a folder that can't be read."""
    progress.console.print(f"skipped {error}", markup=False)


def arriving(arrivals: Arrivals, stop: Event) -> Iterator[list[Found]]:
    """Complete files, in the order in which they arrive, until ``stop`` is set; files that are there already come first.

    Raises:
        InputError: watchfiles is not installed.
        OSError: a folder is gone, or the system can't watch it.
    """
    packages.require("watchfiles", extra="watch")
    import watchfiles

    with library_call():
        changes = watchfiles.watch(
            *arrivals.folders, watch_filter=None, step=_TICK // 5, debounce=_TICK, rust_timeout=_TICK,
            yield_on_timeout=True, stop_event=stop, raise_interrupt=False,
        )  # fmt: skip
        changed: set[tuple[watchfiles.Change, str]] | None = next(changes, None)
    searched = -RESCAN
    while changed is not None:
        now, paths = time.monotonic(), [Path(path) for _, path in changed]
        # The system does not report files that were put into a new folder before it was watched.
        if now - searched >= RESCAN or any(path.is_dir() for path in paths):
            arrivals.search(now)
            searched = now
        arrivals.note(paths, now)
        if found := arrivals.whole(now):
            yield found
        with library_call():
            changed = next(changes, None)
