"""Each loss formula once: from the small statistics that kernels give to scalars that torch differentiates.

``B`` images of ``H`` x ``W`` pixels, ``C`` curve maps; ``h`` x ``w`` regions of an image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NORMALIZATIONS = ("paper", "keras")


class Weights(NamedTuple):
    """What each term counts in the objective's total (Zero-DCE's own, illumination on the paper's scale)."""

    illumination: float = 1600.0
    spatial: float = 1.0
    color: float = 5.0
    exposure: float = 10.0


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
    return scale * (tv_sums[0] / max(pairs[0], 1) + tv_sums[1] / max(pairs[1], 1))


def spatial_consistency(enhanced_means: Tensor, image_means: Tensor) -> Tensor:
    """From the region means (B, h, w) of both images. Zero-DCE, eq. 4; beyond the border lies 0, as published code pads."""
    # Differences are linear: the gap between two images' differences is the difference of their gap. Every pair of
    # neighbours counts for both; a region at the border has the gap itself as its difference to what lies beyond.
    gap = enhanced_means - image_means
    pairs = gap.diff(dim=1).square().sum() + gap.diff(dim=2).square().sum()
    border = sum((edge.square().sum() for edge in (gap[:, 0], gap[:, -1], gap[:, :, 0], gap[:, :, -1])), start=2 * pairs)
    return border / gap.numel()


def color_constancy(channel_means: Tensor) -> Tensor:
    """From the channel means (B, 3). Zero-DCE, eq. 6, per image the root of the summed fourth powers as in published code."""
    red, green, blue = channel_means.unbind(1)
    squares = torch.stack([(red - green).square(), (red - blue).square(), (green - blue).square()], dim=1)
    # A norm's subgradient at 0 is 0; that of sqrt is infinite and turns grey images into NaN.
    return torch.linalg.vector_norm(squares, dim=1).mean()


def coarser(region_means: Tensor) -> Tensor:
    """From the means of 4 x 4 regions (B, h, w) those of 16 x 16: a mean of equal means is the mean of all."""
    return torch.nn.functional.avg_pool2d(region_means, 4)


def exposure_control(region_means: Tensor, target: float) -> Tensor:
    """From the region means (B, h, w) of the enhanced image. Zero-DCE, eq. 5, squared as in published code."""
    return (region_means - target).square().mean()


def objective(weights: Weights, illumination: Tensor, spatial: Tensor, color: Tensor, exposure: Tensor) -> Objective:
    """The four terms and their weighted total."""
    terms = (illumination, spatial, color, exposure)
    total = sum((weight * term for weight, term in zip(weights, terms, strict=True)), start=torch.zeros_like(color))
    return Objective(total, *terms)
