"""``channel_means``: image (B, 3, H, W) -> (B, 3)."""

from typing import Any

import torch
from torch import Tensor

from zdce.ops import mean_gradients, operator

# The float64 reference.


def reference(image: Tensor) -> Tensor:
    """Mean colour of each image, (B, 3)."""
    # 12 bytes read.
    return image.mean((2, 3))


def reference_backward(grad: Tensor, height: int, width: int) -> Tensor:
    """Gradient of the image (B, 3, height, width) from ``grad`` of its channel means."""
    # 12 bytes written.
    return (grad / (height * width))[:, :, None, None].expand(-1, -1, height, width)


# The operator.


def _output(image: Tensor) -> Tensor:
    return operator.empty_statistic((image.shape[0], 3), image)


def _gradient(grad: Tensor, height: int, width: int, dtype: torch.dtype, channels_last: bool, backend: str) -> Tensor:
    return mean_gradients.empty_image(grad, height, width, dtype, channels_last)


def _backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, height, width, *_ = inputs
    return (grad.contiguous(), height, width), outputs


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    return operator.call_backward("channel_means_backward", grad, *ctx.image, ctx.backend)


operator.define(
    "channel_means(Tensor image) -> Tensor",
    "channel_means(Tensor image, Tensor(a!) means) -> ()",
    reference,
    _output,
)
operator.define(
    "channel_means_backward(Tensor grad, SymInt height, SymInt width, ScalarType dtype, bool channels_last, str backend)"
    " -> Tensor",
    "channel_means_backward(Tensor grad, int height, int width, Tensor(a!) grad_image) -> ()",
    reference_backward,
    _gradient,
    _backward_arguments,
)
operator.register_gradient("channel_means", mean_gradients.setup, _backward)
