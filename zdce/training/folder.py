"""A run's folder: its files, and its log."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zdce.ops import Objective

LOG_FIELDS = ("epoch", "split", *Objective._fields, "seconds")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

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
    def board(self) -> Path:
        """TensorBoard's, where it is asked for."""
        return self.path / "tensorboard"

    def epoch(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:03d}.safetensors"


def read_log(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of a run's log as text, by the names of their columns; none where no epoch is done."""
    if not folder.log.exists():
        return []
    with folder.log.open(newline="") as file:
        return list(csv.DictReader(file))


def log_text(rows: Iterable[dict[str, Any]]) -> str:
    """``rows`` as ``read_log`` reads them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
