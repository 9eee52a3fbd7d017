"""``picture_noise``: picture (H, W, 3) -> standard deviations (2,) of its noise and of its grain, as fractions of white.

``zdce.Enhancer`` smooths what it measures.
"""

from typing import Any

import torch
from torch import Tensor

from zdce.interleaved import WHITE, with_contiguous_rows
from zdce.noise_constants import BLOCK_SIDE, BLOCKS_PER_FLAT, BRIGHTEST, DARKEST, FEWEST_BLOCKS, MOST_NOISE, block_distances
from zdce.ops import operator
from zdce.ops.arguments import check_picture


def picture_noise(picture: Tensor, least: float = 0.0) -> Tensor:
    """Measures the noise of a picture, and the grain of its flat parts, as ``denoise_picture`` takes them.

    Noise is what the finest details of the flattest fifth of some 400 blocks of 16 x 16 pixels have more than texture has; what
    a camera has smoothed already counts as texture. The grain is the standard deviation of these details themselves. Both are 0
    where too little of the picture is neither black nor white, and at most 10 levels of 255.

    Args:
        picture: interleaved, shape (H, W, 3), uint8, uint16, or float32 in [0, 1]; any strides, and no copy where each row's
            pixels are contiguous.
        least: lower bound of the noise, as a fraction of white, at least 0 and below 1.

    Returns:
        Standard deviations (2,) of noise and grain, as fractions of white, float64, on the picture's device. No gradient.

    Raises:
        TypeError, ValueError: arguments are not as above, or ``picture`` requires a gradient.

    >>> generator = torch.Generator().manual_seed(0)
    >>> grey = torch.normal(60.0, 4.0, (200, 300, 3), generator=generator).round().to(torch.uint8)
    >>> round(255 * zdce.ops.picture_noise(grey)[0].item(), 1)
    3.5
    """
    check_picture("picture", picture)
    if not isinstance(least, int | float) or isinstance(least, bool):
        raise TypeError(f"least must be a number, got {least!r}")
    if not 0 <= least < 1:
        raise ValueError(f"least must be at least 0 and below 1, got {least}")
    if picture.requires_grad:
        raise ValueError("picture must not require a gradient: picture_noise has none")
    return torch.ops.zdce.picture_noise(picture, least)


# The float64 reference.


def reference(picture: Tensor, least: float) -> Tensor:
    """Standard deviations of noise, at least ``least``, and of grain, as fractions of white, float64 (2,).

    The finest details of a picture are three differences of 2 x 2 pixels a b / c d: ``(a - b - c + d) / 2``,
    ``(a - b + c - d) / 2`` and ``(a + b - c - d) / 2`` (Haar wavelets). In white noise all have the noise's own variance;
    texture has less in the first, ``D``, than in the others, ``X`` and ``Y``. So the variance is ``D - ((X + Y) / 2 - D)``, at
    least 0: what the others have more is texture, and as much of the first. Means are taken over the flattest fifth of blocks
    of 16 x 16 pixels, evenly spread. Noise that a camera smoothed already counts as texture. The grain is the root of ``D``
    itself: texture of these blocks is weak. Both are at most 10 levels of 255.

    Both are 0 where too little of the picture is neither black nor white.
    """
    # uint8 fused: 3 bytes read of each pixel of a block, and 8 bytes of each block written and read.
    found = picture.new_zeros(2, dtype=torch.float64)
    height, width, _ = picture.shape
    if min(height, width) >= BLOCK_SIDE:
        down, across = block_distances(height, width)
        blocks = picture.unfold(0, BLOCK_SIDE, down).unfold(1, BLOCK_SIDE, across).flatten(0, 1)  # (blocks, 3, 16, 16)
        blocks = blocks.double() * (255 / WHITE[picture.dtype])
        flat = blocks[(blocks.mean((1, 2, 3)) > DARKEST) & (blocks.amax((1, 2, 3)) < BRIGHTEST)]
        if len(flat) >= FEWEST_BLOCKS:
            found = torch.stack(_deviations(flat)) / 255
    return torch.stack([found[0].clamp(min=least), found[1]])


def _deviations(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Of noise and grain in levels, of blocks (N, 3, 16, 16)."""
    a, b, c, d = (blocks[..., y::2, x::2] for y in (0, 1) for x in (0, 1))
    diagonal, across, down = ((detail / 2).square().mean((1, 2, 3)) for detail in (a - b - c + d, a - b + c - d, a + b - c - d))
    flattest = diagonal.argsort()[: max(FEWEST_BLOCKS, len(blocks) // BLOCKS_PER_FLAT)]
    finest, others = diagonal[flattest].mean(), (across[flattest].mean() + down[flattest].mean()) / 2
    noise, grain = ((variance.clamp(min=0).sqrt().clamp(max=MOST_NOISE)) for variance in (2 * finest - others, finest))
    return noise, grain


# The operator; it has no gradient.


def _output(picture: Tensor, least: float) -> Tensor:
    return picture.new_empty(2, dtype=torch.float64)


def _arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    picture, least = inputs
    return (with_contiguous_rows(picture), least), outputs


operator.define(
    "picture_noise(Tensor picture, float least) -> Tensor",
    "picture_noise(Tensor picture, float least, Tensor(a!) levels) -> ()",
    reference,
    _output,
    _arguments,
)
