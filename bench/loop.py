"""Share of the time of ``zdce train --augment crops`` that is spent in steps, in a short run that decodes every picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from zdce import training

# Width and height, those of LOL's pictures.
_SIDES = (600, 400)

# Steps of a run, which takes a few seconds.
_STEPS = 8


def step_share(variant: str, batch: int, size: int, folder: Path, steps: int = _STEPS) -> float:
    """``training.Run.step_share`` of a short run.

    Args:
        variant: name of the network.
        batch: pictures per step.
        size: side in pixels that pictures are resized to.
        folder: empty folder for the pictures and the run.
        steps: number of steps.
    """
    pictures = folder / "pictures"
    # At most a fifth of n pictures is kept out of training.
    _generate(pictures, -(-batch * steps * 5 // 4))
    # Without crops so few pictures would be decoded before the first step.
    config = training.Config(variant, str(pictures), epochs=1, batch_size=batch, size=size, augment="crops")
    run = training.Run.start(config, folder / "run")
    run.train()
    return run.step_share


def _generate(folder: Path, count: int) -> None:
    """Writes dark, smooth JPEG files."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 80, (20, 30, 3), np.uint8))
        coarse.resize(_SIDES, Image.Resampling.BICUBIC).save(folder / f"{i:04d}.jpg")
