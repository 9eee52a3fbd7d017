"""``region_means``: image (B, 3, H, W) -> (B, H // region, W // region)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zdce.ops import mean_gradients, operator

# The float64 reference.


def reference(image: Tensor, region: int) -> Tensor:
    """Means over RGB and ``region`` x ``region`` pixels, (B, H // region, W // region); an incomplete border is left out."""
    # 12 bytes read, nearly nothing written.
    return functional.avg_pool2d(image.mean(1, keepdim=True), region).squeeze(1)


def reference_backward(grad: Tensor, region: int, height: int, width: int) -> Tensor:
    """Gradient of the image (B, 3, height, width) from ``grad`` of its region means."""
    # 12 bytes written.
    inside = (grad / (3 * region**2)).repeat_interleave(region, 1).repeat_interleave(region, 2)
    border = (0, width - inside.shape[2], 0, height - inside.shape[1])
    return functional.pad(inside, border)[:, None].expand(-1, 3, -1, -1)


# The operator.


def _output(image: Tensor, region: int) -> Tensor:
    batch, _, height, width = image.shape
    return operator.empty_statistic((batch, height // region, width // region), image)


def _gradient(
    grad: Tensor, region: int, height: int, width: int, dtype: torch.dtype, channels_last: bool, backend: str
) -> Tensor:
    return mean_gradients.empty_image(grad, height, width, dtype, channels_last)


def _backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, region, height, width, *_ = inputs
    return (grad.contiguous(), region, height, width), outputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return operator.call_backward("region_means_backward", grad, *ctx.region, *ctx.image, ctx.backend), None


operator.define(
    "region_means(Tensor image, int region) -> Tensor",
    "region_means(Tensor image, int region, Tensor(a!) means) -> ()",
    reference,
    _output,
)
operator.define(
    "region_means_backward(Tensor grad, int region, SymInt height, SymInt width, ScalarType dtype, bool channels_last,"
    " str backend) -> Tensor",
    "region_means_backward(Tensor grad, int region, int height, int width, Tensor(a!) grad_image) -> ()",
    reference_backward,
    _gradient,
    _backward_arguments,
)
operator.register_gradient("region_means", mean_gradients.setup, _backward)
