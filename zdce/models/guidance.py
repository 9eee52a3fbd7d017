"""Maps that follow a picture's edges: estimated on a small image, and applied to the large one as a linear function of luma."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from zdce.ops.luma import luma

# Radius of the windows in pixels of the small image: together with the network's receptive field they cover the light of a
# region, not its texture.
_RADIUS = 5

# Variance of luma that counts as an edge: a standard deviation of 0.1. Flatter windows get the mean of their maps.
_EDGE = 0.1**2

# Luma that is neither shadow nor highlight.
LIT = 0.4


class Fall(NamedTuple):
    """Lumas between which maps fall linearly to 0, so that lit parts stay as they are; numbers, or (B, 1, 1, 1)."""

    start: float | Tensor
    end: float | Tensor


# The fall for unknown scenes.
_USUAL_FALL = Fall(LIT, 1.0)

# The fall where one colour alone is bright. A start of 0.4 would cost 0.04 dB on the built-in sample, from 0.6 on none does.
_FALL_OF_COLORS = Fall(0.6, 1.0)


def fit(image: Tensor, maps: Tensor, shadows: float = 0.0, highlights: float = 1.0, fall: Fall = _USUAL_FALL) -> Tensor:
    """The coefficients (B, 2, H, W) of ``a Y + b``, the local linear function of luma that comes closest to the maps' mean,
    times ``(1 + shadows * max(0, 1 - Y / 0.4)) * (1 - highlights * lit)``. Here ``lit`` rises linearly from 0 to 1 where Y goes
    from ``fall.start`` to ``fall.end``, or the largest colour from 0.6 to 1, if that is more: lights of one colour have little
    luma, and would become pale.

    This is the guided filter (He, Sun and Tang, TPAMI 2013) without its last step: the coefficients can be interpolated to a
    larger image and applied to its luma (He and Sun, "Fast Guided Filter", 2015), so that maps have its edges.

    Args:
        image: the small image, (B, 3, H, W), in [0, 1].
        maps: curve maps, (B, C, H, W); their mean is used, so that no colour changes more than another.
        shadows: relative change of the maps of black, from -1 (no maps) to 1 (twice the maps).
        highlights: relative reduction of the maps of lit parts, from 0 (none) to 1 (no maps).
        fall: lumas from which on a pixel counts as lit in part, and completely.

    >>> fit(0.4 * torch.rand(1, 3, 20, 30), torch.full((1, 3, 20, 30), -0.5))[0, 1].mean()
    tensor(-0.5000)
    """
    guide = luma(image)
    dark = (1 - guide / LIT).clamp(min=0)
    lit = torch.maximum(_risen(guide, fall), _risen(image.amax(1, keepdim=True), _FALL_OF_COLORS))
    target = maps.mean(1, keepdim=True) * (1 + shadows * dark) * (1 - highlights * lit)
    planes = torch.cat([guide, target, guide * target, guide * guide], 1)
    mean, target_mean, product, square = _averaged(planes).split(1, dim=1)
    slope = (product - mean * target_mean) / (square - mean * mean + _EDGE)
    return _averaged(torch.cat([slope, target_mean - slope * mean], 1))


def _risen(values: Tensor, fall: Fall) -> Tensor:
    return ((values - fall.start) / (fall.end - fall.start)).clamp(0, 1)


def evaluate(image: Tensor, coefficients: Tensor) -> Tensor:
    """``a Y + b`` (B, 1, H, W) of images (B, 3, H, W), at most 0, so that maps never darken.

    It is not cut at -1, unlike ``zdce.ops.enhance_picture.guided_map``: the strength for a scene multiplies coefficients, and
    maps are cut only after that.
    """
    return (coefficients[:, :1] * luma(image) + coefficients[:, 1:]).clamp(max=0)


def _averaged(planes: Tensor) -> Tensor:
    """Planes (B, C, H, W) of the means of windows; beyond the border its pixels are repeated."""
    padded, side = functional.pad(planes, [_RADIUS] * 4, mode="replicate"), 2 * _RADIUS + 1
    return functional.avg_pool2d(functional.avg_pool2d(padded, (1, side), 1), (side, 1), 1)
