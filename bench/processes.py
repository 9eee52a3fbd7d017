"""Measuring processes, each with fixed settings of the allocator, independent of the caller's shell. The work and its outcome
pass between them as JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from . import memory
from .rows import Row

KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}

# Variables of the caller's shell that would change measurements; child processes do not get them.
CLEARED = ("TRITON_INTERPRET", "ZDCE_BACKEND", *KEEP_FREED_MEMORY, *memory.ENVIRONMENT)


@dataclass(frozen=True)
class JsonJob:
    """Work of a process; a base of dataclasses whose fields are numbers, texts, None and tuples of these."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**cls._values(json.loads(text)))

    @classmethod
    def _values(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The fields, from what JSON makes of them."""
        return {name: _tuples(value) for name, value in values.items()}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def described(error: Exception) -> str:
    """Type of an error and the first line of its message."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"


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

    @contextmanager
    def leaving_out(self, what: str) -> Iterator[None]:
        """Turns an error into a note that ``what`` is left out: one provider's failure must not stop the others."""
        try:
            yield
        except Exception as error:
            self.notes.append(f"{what}: {described(error)}")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        values = json.loads(text)
        return cls(**{**values, "rows": [Row(**row) for row in values["rows"]]})


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
    return Outcome.from_json(done.stdout)
