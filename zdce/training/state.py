"""What a stopped run goes on from, bit for bit: how far it is, and its learner."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from zdce.errors import InputError, MissingFileError
from zdce.ops import Objective
from zdce.runtime import atomic
from zdce.training.learner import Learner


@dataclass
class Position:
    """How far a run is: whole epochs, then steps of the next one with their summed losses and seconds, and of how many pictures
    (0: not known)."""

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(Objective._fields))
    seconds: float = 0.0
    pictures: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.step} steps" if self.step else "")


@dataclass(frozen=True)
class State:
    """A copy of a position and of what its learner needs, to be written while both go on."""

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


def load(path: Path, learner: Learner) -> Position:
    """Gives the position in a file that ``State`` wrote, and puts ``learner`` where it was.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken or another network's.
    """
    if not path.is_file():
        raise MissingFileError(f"no run to resume in {path.parent}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            position = Position(**json.loads(metadata["position"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            learner.load(tensors, json.loads(metadata.get("learner", "{}")))
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is no state of this run: {' '.join(str(error).split())}") from error
    return position
