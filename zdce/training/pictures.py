"""Training and validation pictures of a run, held in memory or decoded when they are needed."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zdce.data import datasets
from zdce.data.datasets import WHOLE, Item, Window
from zdce.errors import InputError
from zdce.runtime.processes import SINGLE_PROCESS, Ranks
from zdce.training.config import Config

# Bytes of pictures that are held in memory, for each split: 5461 at 256x256. Pictures beyond it are decoded in each epoch.
MEMORY = 1 << 30


class OnDemand:
    """Pictures that are decoded on demand, on all cores; the first ones that fit into ``memory`` bytes are held.

    Args:
        size: side in pixels that pictures are resized to.
        windows: whether windows of pictures will be requested. If so, decoded pictures are held, otherwise resized ones.
    """

    def __init__(self, items: Sequence[Item], size: int, memory: int, windows: bool) -> None:
        self._items, self._size, self._windows = items, size, windows
        self._held: dict[int, NDArray[np.uint8]] = {}
        self._room, self._lock = memory, threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, indices: Sequence[int], windows: Sequence[Window]) -> NDArray[np.uint8]:
        """Windows of the pictures at ``indices``, resized, (B, 3, size, size).

        Raises:
            OSError: a picture can't be read.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(self._one, indices, windows)))

    def _one(self, index: int, window: Window) -> NDArray[np.uint8]:
        picture = self._held.get(index)
        if picture is None:
            decoded = self._items[index].load()
            picture = decoded if self._windows else datasets.resized(decoded, self._size)
            self._hold(index, picture)
        return datasets.resized(picture, self._size, window) if self._windows else picture

    def _hold(self, index: int, picture: NDArray[np.uint8]) -> None:
        with self._lock:
            if picture.nbytes <= self._room and index not in self._held:
                # A view is copied: it would keep the whole array in memory.
                self._held[index] = np.ascontiguousarray(picture)
                self._room -= picture.nbytes


Source = Tensor | OnDemand


class Pictures(NamedTuple):
    """Training and validation pictures, each (N, 3, size, size) uint8 in memory, or decoded on demand."""

    training: Source
    validation: Source


def check_pictures(config: Config) -> tuple[Sequence[Item], Sequence[Item]]:
    """Training and validation pictures of ``config.data``; no picture is read.

    Raises:
        FileNotFoundError: the folder does not exist.
        InputError: there are fewer training pictures than one update needs.
    """
    pictures = datasets.collection(config.data)
    items = pictures.training_items()
    if len(items) < config.pictures_an_update:
        name = "batch_size" if config.accumulate == 1 else "batch_size * accumulate"
        raise InputError(f"{name} must be at most the {len(items)} training pictures, got {config.pictures_an_update}")
    return items, pictures.validation_items()


def load_pictures(config: Config, ranks: Ranks = SINGLE_PROCESS) -> Pictures:
    """The pictures of ``config.data``, resized; large sets and pictures to crop are decoded on demand.

    Each process decodes its share of the held pictures and receives the others.

    Raises:
        OSError: a picture can't be read.
        InputError: there are fewer training pictures than one update needs.
        zdce.runtime.processes.RankLostError: another process is gone.
    """
    training, validation = check_pictures(config)
    return Pictures(
        _source(training, config.size, "training", ranks, windows=config.augment == "crops"),
        _source(validation, config.size, "validation", ranks, windows=False),
    )


def _source(items: Sequence[Item], size: int, split: str, ranks: Ranks, *, windows: bool) -> Source:
    if windows or len(items) * 3 * size * size > MEMORY:
        return OnDemand(items, size, MEMORY, windows)
    if ranks.world == 1:
        return datasets.load_resized(items, size, f"loading {split} pictures")
    stacked = torch.zeros(len(items), 3, size, size, dtype=torch.uint8)
    stacked[ranks.rank :: ranks.world] = datasets.load_resized(ranks.share(items), size, f"loading {split} pictures")
    return ranks.summed(stacked)


def batch(source: Source, indices: NDArray[np.int64], windows: Sequence[Window] | None = None) -> NDArray[np.uint8]:
    """The pictures of ``source`` at ``indices`` (B,), whole or a window of each, (B, 3, size, size).

    Raises:
        OSError: a picture can't be read.
        InputError: windows of pictures that are already resized are requested.
    """
    if isinstance(source, Tensor):
        if windows is not None:
            raise InputError("pictures must be those that load_pictures gives for crops, got resized ones")
        # NumPy's indexing: in this thread torch would start more threads, which compete with those of training.
        return source.numpy()[indices]
    return source.batch(indices.tolist(), [WHOLE] * len(indices) if windows is None else windows)


def some(source: Source, count: int) -> Tensor:
    """The first pictures, at most ``count``, (N, 3, size, size) uint8."""
    return torch.from_numpy(batch(source, np.arange(min(count, len(source)))))
