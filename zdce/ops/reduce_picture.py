"""``reduce_picture``: picture (H, W, 3) -> (1, 3, ceil(H / scale), ceil(W / scale))."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zdce.interleaved import fractions, with_contiguous_rows
from zdce.ops import operator
from zdce.ops.arguments import check_picture, check_scale


def reduce_picture(picture: Tensor, scale: int, antialias: bool = True) -> Tensor:
    """A picture reduced to a ``scale`` times smaller image by area means, as input of a network.

    Args:
        picture: interleaved as decoded, shape (H, W, 3), uint8, uint16, or float32 in [0, 1]; any strides, and no copy where
            each row's pixels are contiguous.
        scale: side of the averaged squares in pixels; at the border, of their pixels inside the picture.
        antialias: False takes bilinear samples of four pixels instead, as published for Zero-DCE++ (``interpolate`` with
            ``align_corners=False``).

    Returns:
        Shape (1, 3, ceil(H / scale), ceil(W / scale)), float32 in [0, 1]; no gradient.

    Raises:
        TypeError, ValueError: arguments are not as above.

    >>> zdce.ops.reduce_picture(torch.full((25, 36, 3), 51, dtype=torch.uint8), 12).shape
    torch.Size([1, 3, 3, 3])
    """
    check_picture("picture", picture)
    check_scale(scale)
    return torch.ops.zdce.reduce_picture(picture.detach(), scale, antialias)


# The float64 reference.


def reference(picture: Tensor, scale: int, antialias: bool = True) -> Tensor:
    """Means over ``scale`` x ``scale`` pixels, fewer at the border, (1, 3, ceil(H / scale), ceil(W / scale)) in [0, 1].

    Without ``antialias``, bilinear samples with ``align_corners=False``.
    """
    # uint8: 3 bytes read, of samples 12 / scale^2, nearly nothing written. Eager makes floats of the picture first, 12 bytes
    # written and read.
    height, width, _ = picture.shape
    if not antialias:
        size = [-(-height // scale), -(-width // scale)]
        return functional.interpolate(fractions(picture), size=size, mode="bilinear", align_corners=False)
    side = min(scale, max(height, width))  # a larger square has the same pixels
    padded = functional.pad(fractions(picture), (0, -width % side, 0, -height % side))
    sums = padded.unflatten(3, (-1, side)).unflatten(2, (-1, side)).sum((3, 5))
    rows, columns = (
        (size - side * torch.arange(-(-size // side), device=picture.device)).clamp(max=side) for size in (height, width)
    )
    return sums / (rows[:, None] * columns)


# The operator; it has no gradient.


def _output(picture: Tensor, scale: int, antialias: bool) -> Tensor:
    height, width = (-(-side // scale) for side in picture.shape[:2])
    return picture.new_empty((1, 3, height, width), dtype=torch.float32)


def _arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    picture, *how = inputs
    return (with_contiguous_rows(picture), *how), outputs


operator.define(
    "reduce_picture(Tensor picture, int scale, bool antialias) -> Tensor",
    "reduce_picture(Tensor picture, int scale, bool antialias, Tensor(a!) small) -> ()",
    reference,
    _output,
    _arguments,
)
