"""Measuring processes: each with the allocator's settings that its figures mean, whatever the caller's shell says."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import memory
from .rows import Row

KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}

# What decides how the children measure and must not come from the caller's shell.
CLEARED = ("TRITON_INTERPRET", "ZDCE_BACKEND", *KEEP_FREED_MEMORY, *memory.ENVIRONMENT)


@dataclass
class Outcome:
    """Rows, and in a line each why a provider was left out; ``wrong`` where it failed its check."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrong: bool = False

    def add(self, other: "Outcome") -> None:
        """Takes the other's rows, and the notes that are new."""
        self.rows += other.rows
        self.notes += [note for note in other.notes if note not in self.notes]
        self.wrong |= other.wrong


def measured(module: str, job: str, environment: Mapping[str, str], what: str) -> Outcome:
    """What ``zdce.bench.<module>`` prints for ``job``, its one argument, in a process with ``environment``.

    Raises:
        ChildProcessError: the process failed; the message names ``what`` it did.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in CLEARED}
    # -P: in a clone the folder of this name must not hide the installed package.
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"zdce.bench.{module}", job],
        stdout=subprocess.PIPE, text=True, check=False, env={**inherited, **environment},
    )  # fmt: skip
    if done.returncode != 0:
        raise ChildProcessError(f"the measuring process of {what} ended with exit code {done.returncode}")
    answer = json.loads(done.stdout)
    return Outcome([Row(**row) for row in answer["rows"]], answer["notes"], answer["wrong"])
