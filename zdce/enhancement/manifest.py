"""The manifest of a batch: a CSV file with a row for each file, which a later run continues."""

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from zdce import errors
from zdce.errors import FileError, InputError
from zdce.runtime import atomic, locks

# File names are bytes; names that are not UTF-8 must be read back unchanged.
_AS_THEY_WERE = "surrogateescape"


class Row(NamedTuple):
    """Paths of a file and its result, its status (``STATUSES``), and the reason, or what the result lacks of its source."""

    source: str
    target: str
    status: str
    reason: str = ""


WRITTEN, BRIGHT, PARTLY, KEPT, FAILED = "written", "bright", "partly", "kept", "failed"

# "bright": the picture was not dark and stayed as it was; "partly": the decodable part of a broken video was written; "kept":
# the result existed.
STATUSES = (WRITTEN, BRIGHT, PARTLY, KEPT, FAILED)


class Manifest:
    """A CSV file with one ``Row`` for each result, added when it is done; several processes may add to it.

    After a stop at any moment, even by SIGKILL, all rows but the last are complete; ``begin`` drops an incomplete one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, again: Iterable[str], kept: Iterable[Row]) -> None:
        """Drops the rows of the targets that are done ``again``, and adds those of ``kept`` that former runs left none of.

        Raises:
            OSError: the file can't be read or written.
            ValueError: the file is not a manifest.
        """
        passed, there = set(again), {row.target: row for row in kept}
        with atomic.replacing(self._path) as temporary, temporary.open("w", -1, "utf-8", _AS_THEY_WERE, "") as file:
            file.write(_line(Row._fields))
            for row in self._former():
                # The result exists although the job failed: another program made it.
                if row.target not in passed and not (row.status == FAILED and row.target in there):
                    file.write(_line(row))
                    passed.add(row.target)
            file.writelines(_line(row) for target, row in there.items() if target not in passed)

    def add(self, row: Row) -> None:
        """Adds ``row`` at the end.

        Raises:
            OSError: the disk is full.
        """
        try:
            with self._path.open("ab") as file:
                # Appending is atomic except on network file systems, some of which have locks, and on Windows.
                locks.lock(file.fileno(), wait=True)
                file.write(_line(row).encode("utf-8", _AS_THEY_WERE))
        except OSError as error:
            raise FileError(f"{self._path}: {errors.one_line(error)}") from error

    def _former(self) -> Iterator[Row]:
        if not self._path.exists():
            return
        with self._path.open("r", -1, "utf-8", _AS_THEY_WERE, "") as file:
            if file.readline() not in {"", _line(Row._fields)}:
                raise InputError(f"{self._path} exists and is not a manifest: expected the columns {', '.join(Row._fields)}")
            before = ""
            for line in file:
                # Names may contain line ends. An incomplete last line is not continued.
                row = _row(before + line) or _row(line)
                before = "" if row else before + line
                if row:
                    yield row


def _row(text: str) -> Row | None:
    """The row that ``_line`` wrote as ``text``, if it is complete."""
    with suppress(csv.Error):
        values = next(csv.reader([text], strict=True), [])
        if text.endswith("\n") and len(values) == len(Row._fields) and values[2] in STATUSES:
            return Row(*values)
    return None


def _line(values: Iterable[str]) -> str:
    row, text = list(values), io.StringIO()
    # Python before 3.13 does not quote carriage returns, which readers take for line ends.
    all_of_it = any("\r" in value for value in row)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if all_of_it else csv.QUOTE_MINIMAL).writerow(row)
    return text.getvalue()
