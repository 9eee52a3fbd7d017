"""Strength of the curve for a scene: a factor of its maps that brings dark scenes to a target mean and leaves others alone."""

import torch
from torch import Tensor

from zdce import ops
from zdce.ops import operator, scene_strength
from zdce.ops.scene_strength import Curve
from zdce.scene_constants import SIDE

__all__ = ["Curve", "in_one_kernel", "strength", "thumbnail"]


def thumbnail(image: Tensor) -> Tensor:
    """SIDE x SIDE evenly spread pixels of images (B, 3, H, W), shape (B, 3, SIDE, SIDE); small images' pixels are repeated.

    They are single pixels, not means, so that noise and lamps have the same share as in the picture.
    """
    rows, columns = ((2 * torch.arange(SIDE, device=image.device) + 1) * side // (2 * SIDE) for side in image.shape[2:])
    if image.dtype == torch.uint16:  # which CUDA does not select from; the bits are what is moved
        return thumbnail(image.view(torch.int16)).view(torch.uint16)
    return image.index_select(2, rows).index_select(3, columns)


def strength(image: Tensor, maps: Tensor, iterations: int, brightness: float, curve: Curve = ops.apply_curve) -> Tensor:
    """Factor for each image's curve maps, (B, 1, 1, 1), from 0 to 2.

    With m the mean of the pixels that are not black, s their share, and b ``brightness``:

    * the target mean is ``b * (m / 0.05) ** 0.4``, at most ``max(b, 0.5)``, times ``min(1, s / 0.75)``;
    * the part of the way from the image's mean to the target falls linearly from 1 at ``m = 0.4 b`` to 0 at ``m = 0.9 b``,
      and is multiplied by ``min(1, s / 0.05)``;
    * the result, found by bisection, is the largest factor with which the mean goes no further than that and at most 0.3 % more
      of the pixels become white in some colour.

    Args:
        image: thumbnails (B, 3, SIDE, SIDE) in [0, 1].
        maps: their curve maps, (B, 3T or 3, SIDE, SIDE).
        iterations: T.
        brightness: target mean of a scene with a mean of 0.05, in (0, 1).
        curve: applies maps (B, 3T or 3, SIDE, SIDE) to an image in T steps.
    """
    if in_one_kernel(image, curve):
        found = operator.call("scene_strength", image, maps, iterations, brightness).to(image.dtype)
    else:
        found = scene_strength.strength_with(image, maps, iterations, brightness, curve)
    return found[:, None, None, None]


def in_one_kernel(image: Tensor, curve: Curve) -> bool:
    """Whether strengths for area means or thumbnails ``image`` are found by an operator, with no work of the host between its
    steps; where ``curve`` is another than the usual, or on CPUs, they are found by many.
    """
    return curve is ops.apply_curve and image.device.type != "cpu"
