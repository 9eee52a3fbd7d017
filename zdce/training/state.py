"""What a stopped run goes on from, bit for bit: how far it is, and its learner."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch

from zdce.formulas import Objective
from zdce.training.learner import Learner


@dataclass
class Position:
    """How far a run is: whole epochs, then steps of the next one with their summed losses and seconds."""

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(Objective._fields))
    seconds: float = 0.0


def packed(position: Position, learner: Learner) -> bytes:
    """A file of both."""
    return safetensors.torch.save(learner.tensors(), {"position": json.dumps(asdict(position))})


def load(path: Path, learner: Learner) -> Position:
    """Gives the position in a file of ``packed`` and puts ``learner`` where it was.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is broken or another network's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no run to resume in {path.parent}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            learner.load({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a mapping)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is no state of this run: {' '.join(str(error).split())}") from error
    return position
