"""``scene_strength``: thumbnails (B, 3, 64, 64), maps (B, 3T or 3, 64, 64) -> strengths (B,) for a target mean.

``zdce.models.scene.strength`` is the public function.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from zdce.ops import operator
from zdce.ops.apply_curve import reference as curve_reference

# Function from an image (B, 3, H, W), maps (B, 3T or 3, H, W) and T to the enhanced image.
Curve = Callable[[Tensor, Tensor, int], Tensor]

# Side of the thumbnails for the kernel; the reference takes any size.
SIDE = 64

# Upper bound of the strength: larger values no longer brighten but flatten, because most maps are at their limit of 1.
MOST = 2.0

# Pixels are black up to two levels of 255, in all colours: the black of a night does not make a scene dark.
BLACK = 2.5 / 255

# The target mean is `brightness * (mean / REFERENCE_MEAN) ** TARGET_EXPONENT`: a scene with this mean is brought to
# `brightness`. 0.4 of the differences between scenes, in stops, remain: a darker scene should stay darker.
REFERENCE_MEAN, TARGET_EXPONENT = 0.05, 0.4

# Upper bound of the target mean, unless `brightness` is higher.
HIGHEST_TARGET = 0.5

# Scenes with a mean below the first share of `brightness` are brought to their target, those above the second stay as they
# are; between them the part of the way falls linearly.
DARK_BELOW, LIT_ABOVE = 0.4, 0.9

# Share of pixels that the curve may make white in some colour, and the value that is white in 8 bits. In SIDE x SIDE pixels
# such a share has a sampling error of 0.1 %, so the share in the picture stays below 0.5 %.
CLIPPED_SHARE, WHITE = 0.003, 254.5 / 255

# Shares of pixels that are not black: below the first, the effect falls linearly, because few pixels say little about the
# scene; below the second, black counts as the night around the scene, and the target falls linearly.
MEANINGFUL_SHARE, FULL_SHARE = 0.05, 0.75

# Halvings of the interval from 0 to MOST. The remaining 2 / 2^15 change the brightness by a hundredth of a level, so that
# implementations with other rounding give the same pictures.
HALVINGS = 15


# The float64 reference.


def reference(image: Tensor, maps: Tensor, iterations: int, brightness: float) -> Tensor:
    """Factor for each image's maps, (B,); ``zdce.models.scene.strength`` says which."""
    # Eager: some 12 passes over 12 * 64^2 bytes and 2 over those of the maps for each halving. Fused: the maps are read once
    # for each, the image once in all.
    return found(image, maps, iterations, brightness, curve_reference)


def found(image: Tensor, maps: Tensor, iterations: int, brightness: float, curve: Curve) -> Tensor:
    """As ``reference``, with ``curve``."""
    visible = (image.amax(1) > BLACK).to(image.dtype)
    share = visible.mean((1, 2))
    before = image.mean((1, 2, 3))
    own = (image.mean(1) * visible).mean((1, 2)) / share.clamp(min=1 / visible[0].numel())
    target = (brightness * (own / REFERENCE_MEAN) ** TARGET_EXPONENT).clamp(max=max(brightness, HIGHEST_TARGET))
    target = target * (share / FULL_SHARE).clamp(max=1)
    part = ((LIT_ABOVE * brightness - own) / ((LIT_ABOVE - DARK_BELOW) * brightness)).clamp(0, 1)
    part = part * (share / MEANINGFUL_SHARE).clamp(max=1)
    highest, allowed = before + part * (target - before), clipped(image) + CLIPPED_SHARE

    def keeps(enhanced: Tensor) -> Tensor:
        return (enhanced.mean((1, 2, 3)) <= highest) & (clipped(enhanced) <= allowed)

    return torch.where(share > 0, largest(image, maps, iterations, MOST, HALVINGS, keeps, curve), 0)


def largest(
    image: Tensor,
    maps: Tensor,
    iterations: int,
    most: float,
    halvings: int,
    keeps: Callable[[Tensor], Tensor],
    curve: Curve,
) -> Tensor:
    """The largest factors (B,) from 0 to ``most`` of the maps with which ``keeps`` of the enhanced image is true, by
    bisection."""
    factor = image.new_zeros(image.shape[0])  # len(image) would be a constant in exported programs
    for step in range(1, halvings + 1):
        tried = factor + most / 2**step
        enhanced = curve(image, (maps * tried[:, None, None, None]).clamp(-1, 1), iterations)
        factor = torch.where(keeps(enhanced), tried, factor)
    return factor


def clipped(image: Tensor) -> Tensor:
    """Share (B,) of the pixels of images (B, 3, h, w) that are white in some colour."""
    return (image.amax(1) >= WHITE).to(image.dtype).mean((1, 2))


# The operator; it has no gradient.


def _output(image: Tensor, maps: Tensor, iterations: int, brightness: float) -> Tensor:
    return operator.empty_statistic((image.shape[0],), image, maps)


operator.define(
    "scene_strength(Tensor image, Tensor maps, int iterations, float brightness) -> Tensor",
    "scene_strength(Tensor image, Tensor maps, int iterations, float brightness, Tensor(a!) strengths) -> ()",
    reference,
    _output,
    operator.contiguous,
    kernels=("triton",),
)
