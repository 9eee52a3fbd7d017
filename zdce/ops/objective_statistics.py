"""``objective_statistics``, the one pass under ``zero_reference_objective``.

image (B, 3, H, W), logits (B, 3T or 3, H, W) -> 4 x 4 region means (B, H // 4, W // 4) of the enhanced image and of the image,
channel means (B, 3) of the enhanced image, tv_sums (2,) of the maps.
"""

from typing import Any

import torch
from torch import Tensor

from zdce.ops import operator
from zdce.ops.apply_curve import reference as curve_reference
from zdce.ops.apply_curve import reference_backward as curve_reference_backward
from zdce.ops.channel_means import reference as channel_means_reference
from zdce.ops.channel_means import reference_backward as channel_means_reference_backward
from zdce.ops.region_means import reference as region_means_reference
from zdce.ops.region_means import reference_backward as region_means_reference_backward
from zdce.ops.tv_sums import reference as tv_sums_reference
from zdce.ops.tv_sums import reference_backward as tv_sums_reference_backward

# The float64 reference.


def in_common_dtype(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors in the wider of their dtypes."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def reference(image: Tensor, logits: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """4 x 4 region means of the enhanced image and of ``image``, channel means of the enhanced one, tv_sums of the maps."""
    # Eager: tanh, curve and statistics are passes of their own. Fused: image and logits are read once, 12 + 96.
    image, logits = in_common_dtype(image, logits)
    maps = torch.tanh(logits)
    enhanced = curve_reference(image, maps, iterations)
    return (
        region_means_reference(enhanced, 4),
        region_means_reference(image, 4),
        channel_means_reference(enhanced),
        tv_sums_reference(maps),
    )


def reference_backward(
    grad_regions: Tensor, grad_channels: Tensor, grad_tv: Tensor, image: Tensor, logits: Tensor, iterations: int
) -> Tensor:
    """Gradient of ``logits`` from the gradients of the statistics."""
    # Fused: image and logits are read once, the gradient is written once: 12 + 96 + 96 = 204.
    image, logits = in_common_dtype(image, logits)
    maps = torch.tanh(logits)
    size = image.shape[2:]
    grad = region_means_reference_backward(grad_regions, 4, *size) + channel_means_reference_backward(grad_channels, *size)
    grad_maps = curve_reference_backward(grad, image, maps, iterations)[1] + tv_sums_reference_backward(grad_tv, maps)
    return grad_maps * (1 - maps * maps)


# The operator.


def _outputs(image: Tensor, logits: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, _, height, width = image.shape
    shapes = ((batch, height // 4, width // 4), (batch, height // 4, width // 4), (batch, 3), (2,))
    enhanced_regions, image_regions, channels, tv = (operator.empty_statistic(shape, image, logits) for shape in shapes)
    return enhanced_regions, image_regions, channels, tv


def _gradient(
    grad_regions: Tensor, grad_channels: Tensor, grad_tv: Tensor, image: Tensor, logits: Tensor, iterations: int, backend: str
) -> Tensor:
    return operator.empty_in_layout(logits)


def _backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    return (*(grad.contiguous() for grad in inputs[:3]), *inputs[3:]), outputs


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, ...]) -> None:
    image, logits, ctx.iterations = inputs
    ctx.save_for_backward(image, logits)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad_regions: Tensor, _: Tensor, grad_channels: Tensor, grad_tv: Tensor) -> tuple[None, Tensor, None]:
    grads = (grad_regions, grad_channels, grad_tv)
    return None, torch.ops.zdce.objective_statistics_backward(*grads, *ctx.saved_tensors, ctx.iterations, ctx.backend), None


operator.define(
    "objective_statistics(Tensor image, Tensor logits, int iterations) -> (Tensor, Tensor, Tensor, Tensor)",
    "objective_statistics(Tensor image, Tensor logits, int iterations, Tensor(a!) enhanced_regions,"
    " Tensor(b!) image_regions, Tensor(c!) channel_means, Tensor(d!) tv_sums) -> ()",
    reference,
    _outputs,
    kernels=("cpp", "triton", "cuda"),
)
operator.define(
    "objective_statistics_backward(Tensor grad_regions, Tensor grad_channels, Tensor grad_tv, Tensor image, Tensor logits,"
    " int iterations, str backend) -> Tensor",
    "objective_statistics_backward(Tensor grad_regions, Tensor grad_channels, Tensor grad_tv, Tensor image, Tensor logits,"
    " int iterations, Tensor(a!) grad_logits) -> ()",
    reference_backward,
    _gradient,
    _backward_arguments,
    kernels=("cpp", "triton", "cuda"),
)
operator.register_gradient("objective_statistics", _setup, _backward)
