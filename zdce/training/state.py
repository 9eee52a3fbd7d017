"""State from which a stopped run continues, bit for bit: its position and its learner."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from zdce.errors import InputError, MissingFileError, ZdceError, library_call
from zdce.ops import Objective
from zdce.runtime import atomic
from zdce.training.learner import Learner


@dataclass
class Position:
    """Position of a run.

    Attributes:
        epoch: number of finished epochs.
        step: number of finished steps of the next epoch.
        sums: total and terms, summed over these steps.
        seconds: time of these steps.
        pictures: number of training pictures; 0: unknown.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(Objective._fields))
    seconds: float = 0.0
    pictures: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.step} steps" if self.step else "")


@dataclass(frozen=True)
class State:
    """A copy of a position and a learner's state, to be written while training continues."""

    position: dict[str, Any]
    done: str
    tensors: dict[str, Tensor]
    numbers: dict[str, Any]

    @classmethod
    def of(cls, position: Position, learner: Learner) -> "State":
        return cls(asdict(position), str(position), learner.tensors(), learner.numbers())

    def write(self, path: Path) -> None:
        """Replaces ``path``."""
        metadata = {"position": json.dumps(self.position), "learner": json.dumps(self.numbers)}
        atomic.write_bytes(path, safetensors.torch.save(self.tensors, metadata))


def read(path: Path, learner: Learner) -> State:
    """Reads a file that ``State`` wrote, with which ``learner`` can continue.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: it is broken or belongs to another network.
    """
    if not path.is_file():
        raise MissingFileError(f"no run to resume in {path.parent}")
    try:
        with library_call(InputError), safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        position = Position(**_numbers(metadata, "position", {field.name for field in fields(Position)}))
        # States of older runs have no learner's numbers.
        numbers = _numbers(metadata, "learner", set(learner.numbers())) if "learner" in metadata else {}
        learner.check(tensors, numbers)
    except ZdceError as error:
        raise InputError(f"{path} is no state of this run: {error}") from error
    return State(asdict(position), str(position), tensors, numbers)


def _numbers(metadata: dict[str, str], key: str, known: set[str]) -> dict[str, Any]:
    """Values in ``metadata`` under ``key``, whose names must be in ``known``."""
    with library_call(InputError):
        values = json.loads(metadata.get(key, "null"))
    if not isinstance(values, dict) or not set(values) <= known:
        raise InputError(f"expected {', '.join(sorted(known))} as {key!r} in its metadata, got {values!r}")
    return values
