"""A run as TensorBoard shows it: losses of both splits, and validation pictures before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zdce.ops import Objective
from zdce.runtime import packages

# Of validation, in their order.
SHOWN = 4


@dataclass(frozen=True)
class Views:
    """Pictures of an epoch: before, (N, 3, H, W) uint8, and after, (N, 3, H, W) in [0, 1] on any device."""

    before: Tensor
    after: Tensor

    def one_below_the_other(self) -> Tensor:
        """(3, 2H, N W) uint8: all before, and below them all after."""
        after = (self.after.cpu() * 255).round().byte()
        return torch.cat([torch.cat(list(row), 2) for row in (self.before, after)], 1)


def found() -> Any:
    """PyTorch's part for TensorBoard.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    packages.require("tensorboard", extra="tensorboard")
    from torch.utils import tensorboard

    return tensorboard


class Board:
    """Event files in ``folder``; what a former process wrote there of epochs after ``done`` is withdrawn."""

    def __init__(self, folder: Path, done: int) -> None:
        self._writer = found().SummaryWriter(folder, purge_step=done + 1)

    def write(self, epoch: int, means: Mapping[str, Sequence[float]], rate: float, views: Views | None) -> None:
        """An epoch's mean total and terms by split, its learning rate, and pictures where there are any.

        Raises:
            OSError: the disk takes no more.
        """
        for split, values in means.items():
            for name, value in zip(Objective._fields, values, strict=True):
                self._writer.add_scalar(f"{name}/{split}", value, epoch)
        self._writer.add_scalar("learning rate", rate, epoch)
        if views is not None:
            self._writer.add_image("before and after", views.one_below_the_other(), epoch)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
