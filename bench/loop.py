"""How much of ``zdce train``'s time lies inside its steps: a short run on generated pictures that are read from disk."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from zdce import training

# As LOL's pictures, width and height.
_SIDES = (600, 400)

# Of a run, which lasts some seconds.
_STEPS = 8


class _Watched(training.Run):
    """A run of one epoch that notes when each step begins and ends."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.spans: list[tuple[float, float]] = []

    def _step(self, batch: Tensor) -> list[float]:
        began = time.perf_counter()
        losses = super()._step(batch)
        self.spans.append((began, time.perf_counter()))
        return losses


def step_share(variant: str, batch: int, size: int, folder: Path, steps: int = _STEPS) -> float:
    """The share in [0, 1] that steps have of the time from the first one's start to the last one's end.

    Args:
        variant: the network that trains.
        batch: pictures a step.
        size: side in pixels that pictures are resized to.
        folder: an empty one, for the pictures and the run.
        steps: of the run.
    """
    pictures = folder / "pictures"
    # Of n pictures a fifth at most is kept out of training.
    _generate(pictures, -(-batch * steps * 5 // 4))
    config = training.Config(variant, str(pictures), epochs=1, batch_size=batch, size=size)
    run = _Watched.start(config, folder / "run")
    assert isinstance(run, _Watched)
    run.train()
    spans = run.spans[:steps]
    return sum(end - began for began, end in spans) / (spans[-1][1] - spans[0][0])


def _generate(folder: Path, count: int) -> None:
    """Dark, smooth JPEG files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 80, (20, 30, 3), np.uint8))
        coarse.resize(_SIDES, Image.Resampling.BICUBIC).save(folder / f"{i:04d}.jpg")
