"""Measuring processes, each with fixed settings of the allocator, independent of the caller's shell."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import memory
from .rows import Row

KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}

# Variables of the caller's shell that would change measurements; child processes do not get them.
CLEARED = ("TRITON_INTERPRET", "ZDCE_BACKEND", *KEEP_FREED_MEMORY, *memory.ENVIRONMENT)


@dataclass
class Outcome:
    """Rows, and notes with the reason for each provider that was left out; ``wrong`` if a result was wrong."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrong: bool = False

    def add(self, other: "Outcome") -> None:
        """Adds the rows of another outcome, and those of its notes that are new."""
        self.rows += other.rows
        self.notes += [note for note in other.notes if note not in self.notes]
        self.wrong |= other.wrong


def measured(module: str, job: str, environment: Mapping[str, str], what: str) -> Outcome:
    """Output of ``zdce.bench.<module>`` with the argument ``job``, in a process with ``environment``.

    Raises:
        ChildProcessError: the process failed; ``what`` names its work in the message.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in CLEARED}
    # -P: the folder ``zdce`` of a clone must not hide the installed package.
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"zdce.bench.{module}", job],
        stdout=subprocess.PIPE, text=True, check=False, env={**inherited, **environment},
    )  # fmt: skip
    if done.returncode != 0:
        raise ChildProcessError(f"the measuring process of {what} ended with exit code {done.returncode}")
    answer = json.loads(done.stdout)
    return Outcome([Row(**row) for row in answer["rows"]], answer["notes"], answer["wrong"])
