"""Measurement of a picture's noise and grain in the picture itself."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zdce.settings import LEVELS

# Side of a block in pixels, and most blocks in a row and in a column: at most 100,000 pixels of a picture of any size.
SIDE, _MOST_BLOCKS = 16, 20

# Blocks that are darker or have brighter pixels (levels of 255) are left out: what is cut off at black or white has less noise.
_DARKEST, _BRIGHTEST = 4, 250

# With fewer blocks the noise counts as 0.
_FEWEST = 8

# Share of the blocks that counts: the flattest. Others have more texture.
_FLAT = 0.2

# Upper bound in levels of 255: beyond it, a fine regular pattern is likelier than noise.
_MOST = 10.0


class Noise(NamedTuple):
    """Standard deviations in 8-bit levels, for ``zdce.ops.denoise_picture``."""

    deviation: float = 0.0
    grain: float = 0.0  # of the finest details in flat parts


def assumed(setting: float | None, own: float, measure: Callable[[], Noise]) -> Noise:
    """The noise to smooth: the ``setting``; else the measured noise, at least the network's ``own``, and the measured grain;
    none for networks without noise of their own.
    """
    if setting is not None:
        return Noise(setting)
    if not own:
        return Noise()
    found = measure()
    return found._replace(deviation=max(own, found.deviation))


def _of_array(picture: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    return np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE), axis=(0, 1))[::down, ::across]


def measured(picture: Any, blocks: Callable[[Any, int, int], NDArray[Any]] = _of_array) -> Noise:
    """The noise of a ``picture`` (H, W, 3), uint8, uint16, or float32 in [0, 1], by ``of_blocks``.

    Args:
        picture: an array, or another type that ``blocks`` takes.
        blocks: function from ``picture`` and the distances of blocks in rows and columns to the blocks for ``of_blocks``.

    >>> grey = np.random.default_rng(0).normal(60, 4, (200, 300, 3)).round().astype(np.uint8)
    >>> round(measured(grey).deviation, 1)
    3.4
    """
    if min(picture.shape[:2]) < SIDE:
        return Noise()
    down, across = (max(SIDE, (side - SIDE) // (_MOST_BLOCKS - 1)) for side in picture.shape[:2])
    return of_blocks(blocks(picture, down, across))


def of_blocks(blocks: NDArray[Any]) -> Noise:
    """Standard deviations in 8-bit levels, from 0 to 10.

    The finest details of a picture are three differences of 2 x 2 pixels a b / c d: ``(a - b - c + d) / 2``,
    ``(a - b + c - d) / 2`` and ``(a + b - c - d) / 2`` (Haar wavelets). In white noise all have the noise's own variance;
    texture has less in the first, ``D``, than in the others, ``X`` and ``Y``. So the variance is ``D - ((X + Y) / 2 - D)``, at
    least 0: what the others have more is texture, and as much of the first. Means are taken over the flattest fifth of blocks
    of 16 x 16 pixels, evenly spread. Noise that a camera smoothed already counts as texture. The grain is the root of ``D``
    itself: texture of these blocks is weak.

    Both are 0 where too little of the picture is neither black nor white.

    Args:
        blocks: evenly spread, shape (rows, columns, 3, 16, 16), uint8, uint16, or float32 in [0, 1].
    """
    white = np.iinfo(blocks.dtype).max if blocks.dtype.kind == "u" else 1
    blocks = blocks.astype(np.float32) * np.float32(LEVELS / white)
    kept = (blocks.mean((2, 3, 4)) > _DARKEST) & (blocks.max((2, 3, 4)) < _BRIGHTEST)
    flat = blocks[kept]
    if len(flat) < _FEWEST:
        return Noise()
    a, b, c, d = flat[..., ::2, ::2], flat[..., ::2, 1::2], flat[..., 1::2, ::2], flat[..., 1::2, 1::2]
    diagonal, *others = (np.square(detail / 2).mean((1, 2, 3)) for detail in (a - b - c + d, a - b + c - d, a + b - c - d))
    flattest = diagonal.argsort()[: max(_FEWEST, int(_FLAT * len(flat)))]
    finest = float(diagonal[flattest].mean())
    variance = 2 * finest - float(np.mean([other[flattest].mean() for other in others]))
    return Noise(min(math.sqrt(max(variance, 0.0)), _MOST), min(math.sqrt(finest), _MOST))
