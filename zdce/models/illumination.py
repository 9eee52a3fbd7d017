"""Division of pictures by their illumination: the formula of SCI (Ma et al., CVPR 2022), based on Retinex."""

import torch
from torch import Tensor

from zdce.interleaved import fractions, to_dtype
from zdce.ops.enhance_picture import interpolated

# Lower bound of the divisor, as published.
_LEAST = 1e-4


def divided(image: Tensor, estimate: Tensor, strength: float | Tensor = 1.0) -> Tensor:
    """``x / (1 - strength * (1 - u))``, at most 1, with the illumination ``u = min(x + (1 + a) / 2, 1)``.

    At strength 1 this is the paper's ``x / u``. The network estimates the difference of illumination and image, as published by
    a sigmoid: ``sigmoid(2 l) = (1 + tanh(l)) / 2`` expresses it by the tanh that all formulas take.

    Args:
        image: images x in [0, 1], shape (B, 3, H, W).
        estimate: a in [-1, 1], same shape.
        strength: 1 as trained, 0 leaves the image unchanged, above 1 is brighter, below 0 darker; a number or a tensor of one.

    Returns:
        Shape (B, 3, H, W), in [0, 1], differentiable in both tensors.

    >>> divided(torch.full((1, 3, 1, 1), 0.1), torch.full((1, 3, 1, 1), -0.6)).mean()
    tensor(0.3333)
    """
    darkness = (1 - image - (1 + estimate) / 2).clamp(min=0)
    return (image / (1 - strength * darkness).clamp(min=_LEAST)).clamp(max=1)


@torch.no_grad()
def divided_picture(
    picture: Tensor, estimate: Tensor, scale: int = 1, strength: float | Tensor = 1.0, align_corners: bool = False
) -> Tensor:
    """As ``divided``, for an interleaved picture: its shape and dtype.

    Args:
        picture: (H, W, 3), uint8, uint16, or floating-point in [0, 1].
        estimate: (1, 3, ceil(H / scale), ceil(W / scale)) in [-1, 1]; it is interpolated as ``zdce.ops.enhance_picture``
            interpolates curve maps.
        strength: as above.
        align_corners: as for ``zdce.ops.enhance_picture``.
    """
    image = fractions(picture)
    large = interpolated(estimate, (image.shape[2], image.shape[3]), scale, align_corners)
    return to_dtype(divided(image, large, strength)[0].permute(1, 2, 0), picture.dtype).to(picture.dtype).contiguous()
