"""Noise where a reference is flat."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.filters import gaussian

from zdce.metrics.pictures import Rgb, luma

# Side of a block, share of blocks that count as flat, and sigma of the blur that removes slopes.
_BLOCK, _FLATTEST, _SLOPE_SIGMA = 16, 0.1, 2.0


def flat_noise(result: Rgb, reference: Rgb) -> float:
    """Noise in flat regions of ``reference``, relative to the brightness there, so that it does not grow with brightness.

    The noise of a block of 16x16 pixels is the standard deviation of the luma of ``result`` minus its Gaussian blur (sigma 2),
    divided by the mean luma of ``result`` in the block. The result is the median over the tenth of the blocks in which the luma
    of ``reference`` has the smallest standard deviation. Blocks where a pixel of ``reference`` is black or has a channel at 255
    are left out, because clipping removes noise, and so are incomplete blocks at the border. NaN if no block is left, or
    ``result`` is black in all of them.
    """
    flat = _flattest(reference)
    light = luma(result)
    details = _blocks(light - gaussian(light, _SLOPE_SIGMA))[flat].std(axis=1)
    brightness = _blocks(light)[flat].mean(axis=1)
    seen = brightness > 0
    return float(np.median(details[seen] / brightness[seen])) if seen.any() else math.nan


def _flattest(reference: Rgb) -> NDArray[np.int64]:
    """Indices of the flattest tenth of the blocks without clipped pixels; at least one if there is any."""
    cut_off = (reference == 255).any(axis=2) | (reference == 0).all(axis=2)
    whole = np.flatnonzero(~_blocks(cut_off).any(axis=1))
    deviation = _blocks(luma(reference))[whole].std(axis=1)
    return whole[np.argsort(deviation, kind="stable")[: math.ceil(len(whole) * _FLATTEST)]]


def _blocks(plane: NDArray[Any]) -> NDArray[Any]:
    """The complete blocks of ``plane`` (H, W), one row of 256 values each."""
    down, across = (length // _BLOCK for length in plane.shape)
    whole = plane[: down * _BLOCK, : across * _BLOCK].reshape(down, _BLOCK, across, _BLOCK)
    return whole.swapaxes(1, 2).reshape(-1, _BLOCK * _BLOCK)
