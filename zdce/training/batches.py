"""The batches of a run, in order: every epoch's shuffle and augmentation follow from the seed, whatever came before."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zdce.data.datasets import Window
from zdce.runtime.processes import SINGLE_PROCESS, Ranks
from zdce.training import pictures
from zdce.training.config import Config
from zdce.training.pictures import Source
from zdce.training.state import Position

# Least share of a picture's width and of its height that a crop keeps.
_LEAST_SHARE = 0.6


def to_come(config: Config, source: Source, position: Position, ranks: Ranks = SINGLE_PROCESS) -> Iterator[Tensor]:
    """One batch for each update from ``position`` to the end, (accumulate * B, 3, size, size) uint8.

    B is a process's part of batch_size: all of them together see what one alone would.
    """
    size, part = config.pictures_an_update, ranks.part(config.batch_size)
    first = position.step
    for epoch in range(position.epoch, config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(source))
        for step in range(first, len(source) // size):
            wanted = order[step * size : (step + 1) * size].reshape(config.accumulate, config.batch_size)[:, part]
            yield _on_its_way(_augmented(config, source, epoch, wanted.ravel()), config)
        first = 0


def in_order(config: Config, source: Source, ranks: Ranks = SINGLE_PROCESS) -> Iterator[Tensor]:
    """This process's share of all pictures once, unchanged, (batch_size or less, 3, size, size) uint8 each."""
    share = np.arange(ranks.rank, len(source), ranks.world)
    for first in range(0, len(share), config.batch_size):
        yield _on_its_way(pictures.batch(source, share[first : first + config.batch_size]), config)


def _on_its_way(batch: NDArray[np.uint8], config: Config) -> Tensor:
    tensor = torch.from_numpy(batch)
    # Pinned memory is copied to a GPU while it computes.
    return tensor.pin_memory() if torch.device(config.device).type == "cuda" else tensor


def _augmented(config: Config, source: Source, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    if config.augment == "none":
        return pictures.batch(source, indices)
    # Four numbers, so that no picture's generator is the one that shuffles: NumPy fills seeds up with zeros.
    randoms = [np.random.default_rng([config.seed, epoch, i, 1]) for i in indices.tolist()]
    mirrored = np.array([random.random() < 0.5 for random in randoms])
    windows = [_window(random) for random in randoms] if config.augment == "crops" else None
    batch = pictures.batch(source, indices, windows)
    batch[mirrored] = batch[mirrored, :, :, ::-1]
    return batch


def _window(random: np.random.Generator) -> Window:
    width, height = random.uniform(_LEAST_SHARE, 1.0, 2)
    left, top = random.uniform(0.0, (1.0 - width, 1.0 - height))
    # Rounding must not lead out of the picture.
    return left, top, min(left + width, 1.0), min(top + height, 1.0)
