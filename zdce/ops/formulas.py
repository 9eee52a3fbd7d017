"""Formulas of the losses: scalars, differentiable by torch, from small statistics that kernels compute.

``B`` images of ``H`` x ``W`` pixels, ``C`` curve maps; ``h`` x ``w`` regions of an image.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from zdce.settings import LossWeights


class Objective(NamedTuple):
    """The weighted total and its four terms, unweighted, all scalars."""

    total: Tensor
    illumination: Tensor
    spatial: Tensor
    color: Tensor
    exposure: Tensor


def illumination_factors(shape: torch.Size, normalization: str) -> tuple[float, float]:
    """What the squared differences along y and those along x of maps of ``shape`` (B, C, H, W) are multiplied by."""
    batch, channels, height, width = shape
    if normalization == "paper":
        # Zero-DCE, eq. 7: the mean over iterations (C / 3 of them) and over the pairs of each direction.
        scale, pairs = 2 / (batch * (channels / 3)), ((height - 1) * width, height * (width - 1))
    else:
        # The Keras example's divisors; its 8 iterations make weight 1600 equal to its weight 200.
        scale, pairs = 2 / (8 * batch), ((width - 1) * channels, width * (channels - 1))
    # A direction without pairs has the sum 0, and any divisor but 0 is right.
    return scale / max(pairs[0], 1), scale / max(pairs[1], 1)


def illumination_smoothness(tv_sums: Tensor, factors: tuple[float, float]) -> Tensor:
    """Loss from ``tv_sums`` (2,): squared differences along y and x, summed, and their ``illumination_factors``."""
    along_y, along_x = tv_sums.unbind()
    return factors[0] * along_y + factors[1] * along_x


def spatial_consistency(gaps: Tensor, tv_sums: Callable[[Tensor], Tensor]) -> Tensor:
    """Loss from the gaps (B, h, w) between both images' region means: Zero-DCE, eq. 4, padded with 0 as in published code.

    With the gap G, the loss is the mean over regions of ``sum over 4 neighbours of (G - G')^2``:
    the difference of two images' differences is the difference of their gap. Each pair of neighbouring regions occurs twice,
    once for each of them; a region at the border and the padding beyond it occur once. The sum is therefore that over the pairs
    of the padded gap plus that over the pairs inside.

    Args:
        tv_sums: function from (B, 1, h, w) to its squared differences of neighbours along both axes, summed, (2,).
    """
    gap = gaps.unsqueeze(1)
    once = tv_sums(functional.pad(gap, (1, 1, 1, 1)))
    return (once + tv_sums(gap)).sum() / gap.numel()


def color_constancy(channel_means: Tensor) -> Tensor:
    """Loss from the channel means (B, 3): Zero-DCE, eq. 6, as published code has it, averaged over images.

    That is ``sqrt(p^4 + q^4 + r^4)`` with the three differences p, q, r of channel means. They add up to 0, so that ``(p^2 +
    q^2 + r^2)^2 = 2 (p^4 + q^4 + r^4)``, and the root is ``(p^2 + q^2 + r^2) / sqrt(2)``. Its gradient on grey images is 0,
    where that of the root would be 0 / 0.
    """
    squares = functional.mse_loss(channel_means, channel_means.roll(1, 1), reduction="sum")
    return squares / (math.sqrt(2) * channel_means.shape[0])


def coarser(region_means: Tensor) -> Tensor:
    """Means of 16 x 16 regions from the means of 4 x 4 regions (B, h, w)."""
    return functional.avg_pool2d(region_means, 4)


def exposure_control(region_means: Tensor, target: float) -> Tensor:
    """Loss from the region means (B, h, w) of the enhanced image: Zero-DCE, eq. 5, squared as in published code."""
    return (region_means - target).square().mean()


def objective(weights: LossWeights, illumination: Tensor, spatial: Tensor, color: Tensor, exposure: Tensor) -> Objective:
    """The four terms and their weighted total."""
    terms = (illumination, spatial, color, exposure)
    first, *others = (weight * term for weight, term in zip(weights, terms, strict=True))
    return Objective(sum(others, start=first), *terms)
