"""A run's folder: its files and its log."""

import csv
import io
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zdce.errors import InputError, library_call
from zdce.ops import Objective

SPLITS = ("train", "validation")
LOG_FIELDS = ("epoch", "split", *Objective._fields, "seconds")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def resumption(self) -> str:
        """The command, for a shell, that continues the run."""
        return f"zdce train --out {shlex.quote(str(self.path))} --resume"

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def log(self) -> Path:
        return self.path / "log.csv"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files, if they are written."""
        return self.path / "tensorboard"

    def epoch(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:03d}.safetensors"


def read_log(folder: RunFolder) -> list[dict[str, Any]]:
    """Rows of a run's log, text by column name; empty before the first epoch is done.

    Raises:
        InputError: a line is incomplete, or not a row of a log.
    """
    if not folder.log.exists():
        return []
    with library_call(InputError):
        text = folder.log.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    if lines and lines[0].strip() != ",".join(LOG_FIELDS):
        raise InputError(f"{folder.log}: expected the columns {', '.join(LOG_FIELDS)}, got {lines[0].strip()!r}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        values = line.strip().split(",")
        # An incomplete line may end in the middle of a number.
        if not line.endswith("\n") or not _is_row(values):
            raise InputError(f"{folder.log}, line {number}: expected a row of {', '.join(LOG_FIELDS)}, got {line.strip()!r}")
        rows.append(dict(zip(LOG_FIELDS, values, strict=True)))
    return rows


def _is_row(values: list[str]) -> bool:
    """Whether a line has all values, of the right types."""
    if len(values) != len(LOG_FIELDS) or values[1] not in SPLITS or not values[0].isdecimal():
        return False
    try:
        return all(math.isfinite(float(value)) for value in values[2:])
    except ValueError:
        return False


def log_text(rows: Iterable[dict[str, Any]]) -> str:
    """Text of a log with ``rows``, as ``read_log`` reads it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
