"""Light in a result: its darker and lighter half, and what is at white."""

import math

import numpy as np

from zdce.metrics.pictures import Plane, Rgb, luma

# Change of the mean luma below which a picture counts as unchanged.
_UNCHANGED = 0.02


def dark_half(result: Rgb, image: Rgb) -> float:
    """Mean luma (ITU-R BT.709), in [0, 1], of ``result`` where the luma of ``image`` is at most its median.

    The same pixels in every result of a picture; measured of the picture itself it is the brightness before.

    >>> image = np.repeat(np.uint8([[0, 51], [102, 255]])[..., None], 3, axis=2)
    >>> round(dark_half(image, image), 3)
    0.1
    """
    return float(luma(result)[_darker(image)].mean())


def lit_half(result: Rgb, image: Rgb) -> float:
    """Mean luma (ITU-R BT.709), in [0, 1], of ``result`` where the luma of ``image`` is above its median.

    NaN where no pixel is above the median, as in a picture of one colour.

    >>> image = np.repeat(np.uint8([[0, 51], [102, 255]])[..., None], 3, axis=2)
    >>> round(lit_half(image, image), 3)
    0.7
    """
    lit = luma(result)[~_darker(image)]
    return float(lit.mean()) if lit.size else math.nan


def _darker(image: Rgb) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    # Rounded, because equal colours may differ in the last bit of their sums.
    light: Plane = luma(image).round(9)
    return light <= np.median(light)


def unchanged(result: Rgb, image: Rgb) -> float:
    """1 if the mean luma (ITU-R BT.709) of ``result`` differs from that of ``image`` by less than 0.02, else 0.

    Its mean over pictures is the share of pictures that a method leaves as dark, or as light, as they were.

    >>> unchanged(np.full((4, 4, 3), 54, np.uint8), np.full((4, 4, 3), 50, np.uint8))
    1.0
    """
    return float(abs(luma(result).mean() - luma(image).mean()) < _UNCHANGED)


def clipped_share(result: Rgb) -> float:
    """Share of pixels with a channel at 255.

    >>> clipped_share(np.uint8([[[255, 0, 0], [254, 254, 254]]]))
    0.5
    """
    return float((result == 255).any(axis=2).mean())
