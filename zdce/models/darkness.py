"""Whether a picture is dark: one rule for every network, by the light in the darker half of a scene."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zdce.scene_constants import BACKLIT, BLACK, LIT_HALF, NIGHT_SHARE, SHADOW_SHARE, SIDE
from zdce.srgb import LUMA

# 8-bit levels of 16-bit numbers.
_LEVELS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)


def is_dark(image: NDArray[Any]) -> bool:
    """Whether an image (H, W, 3), sRGB, of uint8, uint16 or fractions, is dark: its darker half has a mean luma below 0.16, or
    below 0.3 of the brighter half's.

    Halves are compared because a backlit face in front of a bright window is dark, whatever the mean of the image. A black
    image is dark too.

    >>> is_dark(np.full((40, 60, 3), 30, np.uint8)), is_dark(np.full((40, 60, 3), 90, np.uint8))
    (True, False)
    """
    return lightness(image) < 1


def lightness(image: NDArray[Any]) -> float:
    """Light in the darker half of an image (H, W, 3), as a multiple of the limit below which it is dark.

    >>> round(lightness(np.full((40, 60, 3), 102, np.uint8)), 1)  # luma 0.4; lit from 0.16 on
    2.5
    """
    darker, brighter = halves(_area_means(image))
    return darker / max(LIT_HALF, BACKLIT * brighter)


def halves(means: NDArray[np.float32]) -> tuple[float, float]:
    """Mean luma of the darker and the brighter half of ``means`` (h, w, 3) in [0, 1]; black has weight only if there is
    little of it.
    """
    visible = (means.max(axis=2) > BLACK).ravel()
    shadow = min(max((visible.mean() - NIGHT_SHARE) / (SHADOW_SHARE - NIGHT_SHARE), 0.0), 1.0)
    luma = (means @ np.asarray(LUMA, np.float32)).ravel()
    order = luma.argsort(kind="stable")
    ascending, weights = luma[order], np.where(visible, 1.0, shadow)[order]
    below = weights.cumsum() - weights
    darker = weights * (below < weights.sum() / 2)
    brighter = weights - darker
    first, second = (float(ascending @ counted / max(counted.sum(), np.finfo(float).tiny)) for counted in (darker, brighter))
    return first, second


def _area_means(image: NDArray[Any]) -> NDArray[np.float32]:
    """SIDE x SIDE means of equal areas, to half a level of 255."""
    small = Image.fromarray(np.ascontiguousarray(_levels(image))).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def _levels(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    return _LEVELS[image] if image.dtype == np.uint16 else np.rint(image.clip(0, 1) * 255).astype(np.uint8)
