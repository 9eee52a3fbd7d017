"""Whether a picture is dark: one rule for every network, by the light in the darker half of a scene."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zdce.srgb import LUMA

# Area means of a picture that the rule looks at: few enough that noise and texture don't count, and what they say is the scene.
SIDE = 64

# Area means are black up to two levels of 255, in all colours: the black of a night does not make a scene dark.
BLACK = 2.5 / 255

# Mean luma of the darker half of a scene's area means that are not black: 0.26 in the well-lit photographs of `open`, with a
# standard deviation of 0.08. Scenes above this value, 1.25 deviations below that mean, are lit.
LIT_HALF = 0.16

# 8-bit levels of 16-bit numbers.
_LEVELS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)


def is_dark(image: NDArray[Any]) -> bool:
    """Whether an image (H, W, 3), sRGB, of uint8, uint16 or fractions, is dark: its darker half has a mean luma below 0.16.

    Half of an image is what people complain of: a backlit face in front of a bright window is dark, whatever the mean. A black
    image has nothing to show, and is dark too.

    >>> is_dark(np.full((40, 60, 3), 30, np.uint8)), is_dark(np.full((40, 60, 3), 90, np.uint8))
    (True, False)
    """
    return darker_half(_area_means(image)) < LIT_HALF


def darker_half(means: NDArray[np.float32]) -> float:
    """Mean luma of the darker half of those of ``means`` (h, w, 3) in [0, 1] that are not black; 0 where all are."""
    visible = means[means.max(axis=2) > BLACK]
    luma = np.sort(visible @ np.asarray(LUMA, np.float32))
    return float(luma[: max(1, -(-len(luma) // 2))].mean()) if len(luma) else 0.0


def _area_means(image: NDArray[Any]) -> NDArray[np.float32]:
    """SIDE x SIDE means of equal areas, to half a level of 255."""
    small = Image.fromarray(np.ascontiguousarray(_levels(image))).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def _levels(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    return _LEVELS[image] if image.dtype == np.uint16 else np.rint(image.clip(0, 1) * 255).astype(np.uint8)
