"""Pictures as decoded: interleaved, (H, W, 3), uint8, uint16, or float32 in [0, 1]."""

import torch
from torch import Tensor

# Values of white.
WHITE = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0}


def fractions(picture: Tensor) -> Tensor:
    """The picture (H, W, 3) as (1, 3, H, W) in [0, 1]; integers become float32."""
    values = picture if picture.is_floating_point() else picture.to(torch.float32) / WHITE[picture.dtype]
    return values.permute(2, 0, 1)[None]


def to_dtype(picture: Tensor, dtype: torch.dtype) -> Tensor:
    """Floating-point ``picture`` in [0, 1], scaled to the levels of ``dtype`` and rounded if these are integers."""
    return picture if dtype.is_floating_point else (picture * WHITE[dtype]).round()


def with_contiguous_rows(picture: Tensor) -> Tensor:
    """``picture`` (H, W, 3) with contiguous pixels in each row, as kernels take it; rows may have gaps between them."""
    return picture if picture.stride(2) == 1 and picture.stride(1) == 3 else picture.contiguous()
