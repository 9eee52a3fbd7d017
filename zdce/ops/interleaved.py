"""Pictures as decoded: interleaved, (H, W, 3), uint8, uint16, or float32 in [0, 1]."""

import torch
from torch import Tensor

# What 1 is in memory; floats are in [0, 1] as they are.
WHITE = {torch.uint8: 255, torch.uint16: 65535}


def fractions(picture: Tensor) -> Tensor:
    """The picture (H, W, 3) as (1, 3, H, W) in [0, 1]; integers become float32."""
    values = picture if picture.is_floating_point() else picture.to(torch.float32) / WHITE[picture.dtype]
    return values.permute(2, 0, 1)[None]


def to_dtype(picture: Tensor, dtype: torch.dtype) -> Tensor:
    """A picture in [0, 1] in the levels of ``dtype``, rounded where these are whole numbers, still floating."""
    return (picture * WHITE[dtype]).round() if dtype in WHITE else picture


def with_contiguous_rows(picture: Tensor) -> Tensor:
    """``picture`` (H, W, 3) with each row's pixels contiguous, as kernels take it; rows may lie apart."""
    return picture if picture.stride(2) == 1 and picture.stride(1) == 3 else picture.contiguous()
