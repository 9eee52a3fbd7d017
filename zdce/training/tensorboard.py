"""A run's log for TensorBoard: losses of both splits, and validation pictures before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zdce.ops import Objective
from zdce.runtime import packages

# Number of logged validation pictures, the first ones.
LOGGED_PICTURES = 4


@dataclass(frozen=True)
class BeforeAfter:
    """Validation pictures before enhancement, (N, 3, H, W) uint8, and after, (N, 3, H, W) in [0, 1] on any device."""

    before: Tensor
    after: Tensor

    def stacked(self) -> Tensor:
        """One picture (3, 2H, N W) uint8: a row of pictures before, and below it the row after."""
        after = (self.after.cpu() * 255).round().byte()
        return torch.cat([torch.cat(list(row), 2) for row in (self.before, after)], 1)


def torch_tensorboard() -> Any:
    """The module ``torch.utils.tensorboard``.

    Raises:
        InputError: TensorBoard is not installed.
    """
    packages.require("tensorboard", extra="tensorboard")
    from torch.utils import tensorboard

    return tensorboard


class TensorBoardLog:
    """Event files in ``folder``; entries that an earlier process wrote for epochs after ``done`` are dropped."""

    def __init__(self, folder: Path, done: int) -> None:
        self._writer = torch_tensorboard().SummaryWriter(folder, purge_step=done + 1)

    def write(self, epoch: int, means: Mapping[str, Sequence[float]], rate: float, pictures: BeforeAfter | None) -> None:
        """Writes an epoch's mean total and terms by split, its learning rate, and pictures if there are any.

        Raises:
            OSError: the disk is full.
        """
        for split, values in means.items():
            for name, value in zip(Objective._fields, values, strict=True):
                self._writer.add_scalar(f"{name}/{split}", value, epoch)
        self._writer.add_scalar("learning rate", rate, epoch)
        if pictures is not None:
            self._writer.add_image("before and after", pictures.stacked(), epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
