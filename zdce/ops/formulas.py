"""Each loss formula once: from the small statistics that kernels give to scalars that torch differentiates.

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


def illumination_smoothness(tv_sums: Tensor, shape: torch.Size, normalization: str) -> Tensor:
    """From ``tv_sums`` (2,), the squared differences along y and x summed over maps of ``shape`` (B, C, H, W)."""
    batch, channels, height, width = shape
    if normalization == "paper":
        # Zero-DCE, eq. 7: the mean over iterations (C / 3 of them) and over the pairs of each direction.
        scale, pairs = 2 / (batch * (channels / 3)), ((height - 1) * width, height * (width - 1))
    else:
        # The Keras example's divisors, 8 standing for its iterations: weight 1600 is that example's 200.
        scale, pairs = 2 / (8 * batch), ((width - 1) * channels, width * (channels - 1))
    # A direction without pairs has the sum 0: any divisor but 0 serves.
    along_y, along_x = tv_sums.unbind()
    return scale / max(pairs[0], 1) * along_y + scale / max(pairs[1], 1) * along_x


def spatial_consistency(enhanced_means: Tensor, image_means: Tensor, tv_sums: Callable[[Tensor], Tensor]) -> Tensor:
    """From the region means (B, h, w) of both images. Zero-DCE, eq. 4; beyond the border lies 0, as published code pads.

    ``tv_sums`` gives the squared differences of neighbours of a (B, 1, h, w) along both axes, summed, (2,).
    """
    # Differences are linear: the gap between two images' differences is the difference of their gap. Every pair of
    # neighbours counts for both, so twice, but a region at the border and the 0 beyond it once.
    gap = (enhanced_means - image_means).unsqueeze(1)
    once = tv_sums(functional.pad(gap, (1, 1, 1, 1)))
    return (once + tv_sums(gap)).sum() / gap.numel()


def color_constancy(channel_means: Tensor) -> Tensor:
    """From the channel means (B, 3). Zero-DCE, eq. 6, per image the root of the summed fourth powers as in published code."""
    # An image's three gaps add up to 0, and then (p^2 + q^2 + r^2)^2 = 2 (p^4 + q^4 + r^4): the root is the sum of squares
    # over sqrt(2), which has the gradient 0 on grey images, where the root's own is 0 / 0.
    squares = functional.mse_loss(channel_means, channel_means.roll(1, 1), reduction="sum")
    return squares / (math.sqrt(2) * channel_means.shape[0])


def coarser(region_means: Tensor) -> Tensor:
    """From the means of 4 x 4 regions (B, h, w) those of 16 x 16: a mean of equal means is the mean of all."""
    return functional.avg_pool2d(region_means, 4)


def exposure_control(region_means: Tensor, target: float) -> Tensor:
    """From the region means (B, h, w) of the enhanced image. Zero-DCE, eq. 5, squared as in published code."""
    return functional.mse_loss(region_means, torch.full_like(region_means, target))


def objective(weights: LossWeights, illumination: Tensor, spatial: Tensor, color: Tensor, exposure: Tensor) -> Objective:
    """The four terms and their weighted total."""
    terms = (illumination, spatial, color, exposure)
    first, *others = (weight * term for weight, term in zip(weights, terms, strict=True))
    return Objective(sum(others, start=first), *terms)
