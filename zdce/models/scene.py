"""Strength of the curve for a scene: a factor of its maps that brings dark scenes to a target mean and leaves others alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from zdce import ops

# Function from an image (B, 3, H, W), maps (B, 3T or 3, H, W) and T to the enhanced image.
Curve = Callable[[Tensor, Tensor, int], Tensor]

# Side of the thumbnail on which the strength is found. It has single pixels, not means, so that noise and lamps have the same
# share as in the picture.
SIDE = 64

# Upper bound of the strength: larger values no longer brighten but flatten, because most maps are at their limit of 1.
MOST = 2.0

# Pixels are black up to two levels of 255, in all colours: the black of a night does not make a scene dark.
_BLACK = 2.5 / 255

# The target mean is `brightness * (mean / _REFERENCE_MEAN) ** _TARGET_EXPONENT`: a scene with this mean is brought to
# `brightness`. 0.4 of the differences between scenes, in stops, remain: a darker scene should stay darker.
_REFERENCE_MEAN, _TARGET_EXPONENT = 0.05, 0.4

# Upper bound of the target mean, unless `brightness` is higher.
_HIGHEST_TARGET = 0.5

# Scenes with a mean below the first share of `brightness` are brought to their target, those above the second stay as they
# are; between them the part of the way falls linearly.
_DARK_BELOW, _LIT_ABOVE = 0.4, 0.9

# Share of pixels that the curve may make white in some colour, and the value that is white in 8 bits. In SIDE x SIDE pixels
# such a share has a sampling error of 0.1 %, so the share in the picture stays below 0.5 %.
_CLIPPED_SHARE, _WHITE = 0.003, 254.5 / 255

# Shares of pixels that are not black: below the first, the effect falls linearly, because few pixels say little about the
# scene; below the second, black counts as the night around the scene, and the target falls linearly.
_MEANINGFUL_SHARE, _FULL_SHARE = 0.05, 0.75

# Halvings of the interval from 0 to MOST. The remaining 2 / 2^15 change the brightness by a hundredth of a level, so that
# implementations with other rounding give the same pictures.
_HALVINGS = 15


def thumbnail(image: Tensor) -> Tensor:
    """SIDE x SIDE evenly spread pixels of images (B, 3, H, W), shape (B, 3, SIDE, SIDE); small images' pixels are repeated."""
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
        image: thumbnails (B, 3, h, w) in [0, 1].
        maps: their curve maps, (B, 3T or 3, h, w).
        iterations: T.
        brightness: target mean of a scene with a mean of 0.05, in (0, 1).
        curve: applies maps (B, 3T or 3, h, w) to an image in T steps.
    """
    visible = (image.amax(1) > _BLACK).to(image.dtype)
    share = visible.mean((1, 2))

    def clipped(picture: Tensor) -> Tensor:
        return (picture.amax(1) >= _WHITE).to(image.dtype).mean((1, 2))

    before = image.mean((1, 2, 3))
    own = (image.mean(1) * visible).mean((1, 2)) / share.clamp(min=1 / visible[0].numel())
    target = (brightness * (own / _REFERENCE_MEAN) ** _TARGET_EXPONENT).clamp(max=max(brightness, _HIGHEST_TARGET))
    target = target * (share / _FULL_SHARE).clamp(max=1)
    part = ((_LIT_ABOVE * brightness - own) / ((_LIT_ABOVE - _DARK_BELOW) * brightness)).clamp(0, 1)
    part = part * (share / _MEANINGFUL_SHARE).clamp(max=1)
    highest, allowed = before + part * (target - before), clipped(image) + _CLIPPED_SHARE
    found = torch.zeros_like(before)
    for step in range(1, _HALVINGS + 1):
        tried = found + MOST / 2**step
        enhanced = curve(image, (maps * tried[:, None, None, None]).clamp(-1, 1), iterations)
        found = torch.where((enhanced.mean((1, 2, 3)) <= highest) & (clipped(enhanced) <= allowed), tried, found)
    return torch.where(share > 0, found, 0)[:, None, None, None]
