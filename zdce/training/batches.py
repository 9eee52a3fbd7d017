"""The batches of a run, in order: each epoch's shuffle and augmentation depend only on the seed and the epoch's number."""

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

# Smallest share of a picture's width and of its height that a crop keeps.
_LEAST_SHARE = 0.6


def updates(config: Config, source: Source, position: Position, ranks: Ranks = SINGLE_PROCESS) -> Iterator[Tensor]:
    """One batch for each update from ``position`` to the end of the run, (accumulate * B, 3, size, size) uint8.

    B is this process's part of ``batch_size``: all processes together get the pictures that a single process would get.
    """
    size, part = config.pictures_an_update, ranks.part(config.batch_size)
    first = position.step
    for epoch in range(position.epoch, config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(source))
        for step in range(first, len(source) // size):
            indices = order[step * size : (step + 1) * size].reshape(config.accumulate, config.batch_size)[:, part]
            yield _pinned(_augmented(config, source, epoch, indices.ravel()), config)
        first = 0


def in_order(config: Config, source: Source, ranks: Ranks = SINGLE_PROCESS) -> Iterator[Tensor]:
    """Batches of this process's share of all pictures, once and unchanged, (at most batch_size, 3, size, size) uint8 each."""
    share = np.arange(ranks.rank, len(source), ranks.world)
    for first in range(0, len(share), config.batch_size):
        yield _pinned(pictures.batch(source, share[first : first + config.batch_size]), config)


def _pinned(batch: NDArray[np.uint8], config: Config) -> Tensor:
    tensor = torch.from_numpy(batch)
    # Pinned memory can be copied to a GPU during its computations.
    return tensor.pin_memory() if torch.device(config.device).type == "cuda" else tensor


def _augmented(config: Config, source: Source, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    if config.augment == "none":
        return pictures.batch(source, indices)
    # Four numbers, the last not 0, so that no picture's generator equals the one that shuffles: NumPy pads seeds with zeros.
    randoms = [np.random.default_rng([config.seed, epoch, i, 1]) for i in indices.tolist()]
    mirrored = np.array([random.random() < 0.5 for random in randoms])
    windows = [_window(random) for random in randoms] if config.augment == "crops" else None
    batch = pictures.batch(source, indices, windows)
    batch[mirrored] = batch[mirrored, :, :, ::-1]
    return batch


def _window(random: np.random.Generator) -> Window:
    width, height = random.uniform(_LEAST_SHARE, 1.0, 2)
    left, top = random.uniform(0.0, (1.0 - width, 1.0 - height))
    # Rounding must not exceed the picture.
    return left, top, min(left + width, 1.0), min(top + height, 1.0)
