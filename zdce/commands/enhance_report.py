"""The request for files of `zdce enhance`, and its report on each."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from zdce import errors
from zdce.enhancement import batch
from zdce.enhancement.batch import Job
from zdce.enhancement.manifest import BRIGHT, FAILED, KEPT, PARTLY, WRITTEN, Manifest, Row
from zdce.io.formats import Format

# Status of a result that --dry-run names.
PLANNED = "planned"

# Key of the counts: files in folders whose formats are not read.
UNREAD = "unread"

# Most of these files that one line names.
_NAMED = 5


@dataclass(frozen=True)
class FileRequest:
    """The options about files."""

    paths: tuple[str, ...]
    output: str | None
    form: Format | None
    overwrite: bool
    recursive: bool
    at_once: int


class Report:
    """Reports on each file and at the end, on standard output and in a manifest."""

    def __init__(self, manifest: Manifest | None, as_json: bool, names_files: bool = False) -> None:
        self.manifest, self.as_json, self._names_files = manifest, as_json, names_files

    def begin(self, todo: Sequence[Job], kept: Sequence[Job]) -> None:
        rows = [batch.row(job, KEPT) for job in kept]
        if self.manifest is not None:
            self.manifest.begin((str(job.target) for job in todo), rows)
        if self.as_json:
            for row in rows:
                self.print(row)

    def add(self, row: Row) -> None:
        if self.manifest is not None:
            self.manifest.add(row)
        if self.as_json or (self._names_files and row.status != FAILED):
            self.print(row)

    def print(self, row: Row) -> None:
        """Prints one line for a file on standard output."""
        click.echo(json.dumps(row._asdict()) if self.as_json else _arrow(row))

    def end(self, counts: Counter[str], described: dict[str, str]) -> None:
        """Prints the summary."""
        if self.as_json:
            click.echo(json.dumps({"summary": {status: counts[status] for status in described}}))
        else:
            click.echo(", ".join(f"{counts[status]} {what}" for status, what in described.items() if counts[status]))


def _arrow(row: Row) -> str:
    return f"{row.source} -> {row.target}" + (f": {row.status}" if row.status not in (WRITTEN, PLANNED) else "")


DESCRIBED = {
    WRITTEN: "written",
    BRIGHT: "already bright, copied",
    PARTLY: "written in part",
    KEPT: "kept as they were (--overwrite replaces them)",
    FAILED: "failed",
    UNREAD: "of formats that are not read",
}


def report_passed_over(paths: Sequence[Path], reason: str) -> None:
    """Prints one line on stderr about files that are not inputs, if there are any."""
    if paths:
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        click.echo(f"skipped {', '.join(map(str, paths[:_NAMED]))}{more}: {reason}", err=True)


def end(counts: Counter[str]) -> None:
    """Exits with code 1 if a result is missing or incomplete, with 70 if a bug is the reason."""
    if counts[batch.BUGS]:
        click.echo(f"{counts[batch.BUGS]} of them failed because of a bug of zdce. {errors.REPORT}", err=True)
        sys.exit(errors.BUG_EXIT_CODE)
    if counts[FAILED] or counts[PARTLY]:
        sys.exit(1)
