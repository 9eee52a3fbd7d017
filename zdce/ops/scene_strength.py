"""``scene_strength``: thumbnails (B, 3, 64, 64), maps (B, 3T or 3, 64, 64) -> strengths (B,) for a target mean.

``zdce.models.scene.strength`` is the public function.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from zdce.ops import operator
from zdce.ops.apply_curve import reference as curve_reference
from zdce.scene_constants import (
    BLACK,
    CLIPPED_SHARE,
    DARK_BELOW,
    FULL_SHARE,
    HALVINGS,
    HIGHEST_STRENGTH,
    HIGHEST_TARGET,
    LIT_ABOVE,
    MEANINGFUL_SHARE,
    REFERENCE_MEAN,
    TARGET_EXPONENT,
    WHITE,
)

# Function from an image (B, 3, H, W), maps (B, 3T or 3, H, W) and T to the enhanced image.
Curve = Callable[[Tensor, Tensor, int], Tensor]


# The float64 reference.


def reference(image: Tensor, maps: Tensor, iterations: int, brightness: float) -> Tensor:
    """Factor for each image's maps, (B,); ``zdce.models.scene.strength`` says which."""
    # Eager: some 12 passes over 12 * 64^2 bytes and 2 over those of the maps for each halving. Fused: the maps are read once
    # for each, the image once in all.
    return strength_with(image, maps, iterations, brightness, curve_reference)


def strength_with(image: Tensor, maps: Tensor, iterations: int, brightness: float, curve: Curve) -> Tensor:
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

    return torch.where(share > 0, largest(image, maps, iterations, HIGHEST_STRENGTH, HALVINGS, keeps, curve), 0)


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
