"""Pictures with invisible parts (an opacity of 0, or a border): these have no effect on the curve, and stay as they were."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zdce.enhancement import borders

Array = NDArray[Any]


def filled(pixels: Array, alpha: Array | None) -> Array:
    """``pixels`` (H, W, 3) with visible pixels in place of the invisible ones, where ``alpha`` (H, W) is 0.

    Invisible pixels are replaced, in reading order, by evenly spaced visible ones in reading order, mostly from their own rows.
    So shares, means and percentiles of the picture and of its area means are about those of its visible part. A picture without
    invisible pixels, or without visible ones, is returned unchanged.
    """
    if alpha is None or alpha.all() or not alpha.any():
        return pixels
    invisible, visible = np.flatnonzero(alpha == 0), np.flatnonzero(alpha)
    result = np.ascontiguousarray(pixels).copy()
    colours = result.reshape(-1, 3)
    colours[invisible] = colours[visible[np.arange(len(invisible)) * len(visible) // len(invisible)]]
    return result


def opacity_within_border(pixels: Array, alpha: Array | None) -> Array | None:
    """``alpha`` (H, W) of ``pixels`` (H, W, 3) with 0 also in the picture's border; ``alpha`` itself without border."""
    inside = borders.content(pixels)
    if inside is None:
        return alpha
    within = np.zeros(pixels.shape[:2], np.uint8)
    within[inside] = 255 if alpha is None else alpha[inside] > 0
    return within


def enhance_visible(pixels: Array, alpha: Array | None, enhance: Callable[[Array], Array]) -> Array:
    """What ``enhance`` makes of the visible part of ``pixels`` (H, W, 3); invisible pixels and a border stay as they were.

    Args:
        pixels: picture of any type that ``enhance`` takes; without its border it is smaller.
        alpha: opacity (H, W), where 0 is invisible; None if all pixels are visible.
        enhance: function from an array (H, W, 3) to one of the same type.
    """
    inside = borders.content(pixels)
    if inside is None:
        return _within(pixels, alpha, enhance)
    result = pixels.copy()
    result[inside] = _within(np.ascontiguousarray(pixels[inside]), None if alpha is None else alpha[inside], enhance)
    return result


def _within(pixels: Array, alpha: Array | None, enhance: Callable[[Array], Array]) -> Array:
    if alpha is not None and not alpha.any():
        return pixels.copy()
    enhanced = enhance(filled(pixels, alpha))
    return enhanced if alpha is None or alpha.all() else np.where((alpha > 0)[..., None], enhanced, pixels)
