"""What a run trains on and is validated with, in memory or decoded as it is needed."""

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

# Bytes of pictures that are held in memory, of training's and of validation's each: 5461 at 256x256. What is beyond is decoded
# anew in each epoch.
MEMORY = 1 << 30


class OnDemand:
    """Pictures that are decoded when they are asked for, by all cores; the first ones that fit into ``memory`` bytes are held.

    Args:
        size: side in pixels that they are resized to.
        windows: whether parts will be asked for. Decoded pictures are held then, else resized ones.
    """

    def __init__(self, items: Sequence[Item], size: int, memory: int, windows: bool) -> None:
        self._items, self._size, self._windows = items, size, windows
        self._held: dict[int, NDArray[np.uint8]] = {}
        self._room, self._lock = memory, threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def batch(self, indices: Sequence[int], windows: Sequence[Window]) -> NDArray[np.uint8]:
        """(B, 3, size, size): a window of each picture.

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
                # A copy, where it is a view: what it is a part of would stay in memory.
                self._held[index] = np.ascontiguousarray(picture)
                self._room -= picture.nbytes


Source = Tensor | OnDemand


class Pictures(NamedTuple):
    """What a run trains on and is validated with, each (N, 3, size, size) uint8 in memory, or decoded as it is needed."""

    training: Source
    validation: Source


def check_pictures(config: Config) -> tuple[Sequence[Item], Sequence[Item]]:
    """The pictures to train on and those to validate with, none of them read.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are fewer than one update takes.
    """
    pictures = datasets.collection(config.data)
    items = pictures.training_items()
    if len(items) < config.pictures_an_update:
        name = "batch_size" if config.accumulate == 1 else "batch_size * accumulate"
        raise InputError(f"{name} must be at most the {len(items)} training pictures, got {config.pictures_an_update}")
    return items, pictures.validation_items()


def load_pictures(config: Config, ranks: Ranks = SINGLE_PROCESS) -> Pictures:
    """The pictures of ``config.data``, resized; those of many or to be cropped are decoded as they are needed.

    Each process decodes its share of those that are held, and has the others' from them.

    Raises:
        OSError: one can't be read.
        ValueError: there are fewer than one update takes.
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
    """(B, 3, size, size): the pictures of ``source`` at ``indices`` (B,), whole or a window of each.

    Raises:
        OSError: a picture can't be read.
        ValueError: windows are asked of pictures that are resized already.
    """
    if isinstance(source, Tensor):
        if windows is not None:
            raise InputError("pictures must be those that load_pictures gives for crops, got resized ones")
        # numpy's, for threads: torch would open a team of its own in each, spinning beside the training's.
        return source.numpy()[indices]
    return source.batch(indices.tolist(), [WHOLE] * len(indices) if windows is None else windows)


def some(source: Source, count: int) -> Tensor:
    """The first ``count`` pictures, (count, 3, size, size) uint8."""
    return torch.from_numpy(batch(source, np.arange(min(count, len(source)))))
