"""How much of ``zdce train --augment crops``'s time lies inside its steps: a short run that decodes each picture as it goes."""

from pathlib import Path

import numpy as np
from PIL import Image

from zdce import training

# As LOL's pictures, width and height.
_SIDES = (600, 400)

# Of a run, which lasts some seconds.
_STEPS = 8


def step_share(variant: str, batch: int, size: int, folder: Path, steps: int = _STEPS) -> float:
    """``training.Run.step_share`` of such a run.

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
    # Without crops so few pictures would be decoded before the first step.
    config = training.Config(variant, str(pictures), epochs=1, batch_size=batch, size=size, augment="crops")
    run = training.Run.start(config, folder / "run")
    run.train()
    return run.step_share


def _generate(folder: Path, count: int) -> None:
    """Dark, smooth JPEG files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 80, (20, 30, 3), np.uint8))
        coarse.resize(_SIDES, Image.Resampling.BICUBIC).save(folder / f"{i:04d}.jpg")
