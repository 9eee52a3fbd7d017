"""Shared part of the gradients of region and channel means: they need the image's shape, dtype and layout, not its values."""

from typing import Any

import torch
from torch import Tensor

from zdce.ops import operator


def empty_image(grad: Tensor, height: int, width: int, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """Empty gradient of an image (B, 3, height, width), for ``grad`` (B, ...) of its means."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((grad.shape[0], 3, height, width), dtype=dtype, device=grad.device, memory_format=layout)


def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Saves the arguments of ``empty_image``, none of the image's values."""
    image, *ctx.region = inputs
    ctx.image = (*image.shape[2:], image.dtype, operator.is_channels_last(image))
