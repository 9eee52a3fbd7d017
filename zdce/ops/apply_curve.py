"""``apply_curve``: image (B, 3, H, W), maps (B, 3T or 3, H, W) -> enhanced (B, 3, H, W)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zdce.ops import operator
from zdce.ops.arguments import check_alike, check_iterations, check_tensor


def apply_curve(image: Tensor, maps: Tensor, iterations: int | None = None) -> Tensor:
    """Light-enhancement curves, T steps of ``x + a * (x^2 - x)`` in one pass (Zero-DCE, eq. 3, with a = -alpha).

    For ``maps`` in [-1, 1] the result stays in [0, 1] and keeps the order of pixel values; a negative map brightens. Backward
    is one pass too, and only the inputs are saved for it.

    Args:
        image: images in [0, 1], shape (B, 3, H, W), all sides at least 1.
        maps: curve maps in [-1, 1], shape (B, 3T, H, W): step t, from 1, of colour c in channel 3(t-1)+c. Or (B, 3, H, W) with
            ``iterations``: one triplet that all steps share (Zero-DCE++).
        iterations: T, from 1 to 16; None takes it from the channels of ``maps``.

    Returns:
        The enhanced images, shape (B, 3, H, W), in the layout of ``image`` and the wider of the two dtypes; differentiable in
        both arguments. Second derivatives, forward mode and ``torch.func`` are in plain torch.

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: shapes, devices or ``iterations`` disagree.

    >>> image, maps = torch.full((1, 3, 2, 2), 0.5), torch.full((1, 24, 2, 2), -0.25)
    >>> round(zdce.ops.apply_curve(image, maps).mean().item(), 4)
    0.8927
    """
    check_tensor("image", image, channels=3)
    check_tensor("maps", maps, channels=None)
    check_alike("maps", maps, "image", image)
    steps = check_iterations("maps", maps, iterations)
    return operator.call("apply_curve", image, maps, steps).to(torch.promote_types(image.dtype, maps.dtype))


# The float64 reference. Bytes are per pixel in float32 with T = 8.


def curve_steps(maps: Tensor, iterations: int | None = None) -> Iterator[Tensor]:
    """Triplets of ``maps`` for the T steps, (B, 3, ...) each; the same one T times if ``maps`` has 3 channels."""
    steps = maps.shape[1] // 3 if iterations is None else iterations
    for t in range(steps):
        yield maps if maps.shape[1] == 3 else maps[:, 3 * t : 3 * t + 3]


def reference(image: Tensor, maps: Tensor, iterations: int | None = None) -> Tensor:
    # Eager: every step reads x and one triplet and writes x, at best 36 bytes a pixel, 288 for T = 8.
    # Fused: image and maps are read once, the result is written once: 12 + 96 + 12 = 120.
    x = image
    for a in curve_steps(maps, iterations):
        x = x + a * (x * x - x)
    return x


def reference_backward(grad: Tensor, image: Tensor, maps: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Gradients of ``image`` and ``maps`` from ``grad`` (B, 3, H, W) of the enhanced image."""
    # Eager: autograd keeps every x_t, 12 bytes a step, and passes over them again.
    # Fused: grad, image and maps are read once, both gradients written once: 12 + 12 + 96 + 12 + 96 = 228.
    steps = list(curve_steps(maps, iterations))
    states = [image]
    for a in steps[:-1]:
        x = states[-1]
        states.append(x + a * (x * x - x))
    grad_steps = []
    for x, a in zip(reversed(states), reversed(steps), strict=True):
        grad_steps.append(grad * (x * x - x))
        grad = grad * (1 + a * (2 * x - 1))
    grad_steps.reverse()
    shared = maps.shape[1] == 3
    return grad, torch.stack(grad_steps).sum(0) if shared else torch.cat(grad_steps, dim=1)


# The operator. Kernels take (B, C, P) with P = H * W, because a curve does not depend on neighbours.


def _planes(tensor: Tensor) -> Tensor:
    """(B, C, H, W) as (B, C, P): a view of contiguous and channels_last tensors and of their channel slices, else a copy."""
    return tensor.flatten(2)


def _output(image: Tensor, maps: Tensor, iterations: int) -> Tensor:
    return operator.empty_in_layout(image, torch.promote_types(image.dtype, maps.dtype))


def _arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    image, maps, iterations = inputs
    return (_planes(image), _planes(maps), iterations), (_planes(outputs[0]),)


def _gradients(
    grad: Tensor, image: Tensor, maps: Tensor, iterations: int, image_wanted: bool, maps_wanted: bool, backend: str
) -> tuple[Tensor, Tensor]:
    # A gradient that is not needed is an empty tensor: torch.compile does not support operators that return None.
    return (
        operator.empty_in_layout(image) if image_wanted else image.new_empty(0),
        operator.empty_in_layout(maps) if maps_wanted else maps.new_empty(0),
    )


def _backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, image, maps, iterations, *wanted = inputs
    grads = tuple(_planes(output) if want else None for output, want in zip(outputs, wanted, strict=True))
    return (_planes(grad), _planes(image), _planes(maps), iterations), grads


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    image, maps, ctx.iterations = inputs
    ctx.save_for_backward(image, maps)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    image, maps = ctx.saved_tensors
    image_wanted, maps_wanted, _ = ctx.needs_input_grad
    grad_image, grad_maps = operator.call_backward(
        "apply_curve_backward", grad, image, maps, ctx.iterations, image_wanted, maps_wanted, ctx.backend
    )
    return grad_image if image_wanted else None, grad_maps if maps_wanted else None, None


operator.define(
    "apply_curve(Tensor image, Tensor maps, int iterations) -> Tensor",
    "apply_curve(Tensor image, Tensor maps, int iterations, Tensor(a!) enhanced) -> ()",
    reference,
    _output,
    _arguments,
    kernels=("cpp", "triton", "cuda"),
)
operator.define(
    "apply_curve_backward(Tensor grad, Tensor image, Tensor maps, int iterations,"
    " bool image_wanted, bool maps_wanted, str backend) -> (Tensor, Tensor)",
    "apply_curve_backward(Tensor grad, Tensor image, Tensor maps, int iterations,"
    " Tensor(a!)? grad_image, Tensor(b!)? grad_maps) -> ()",
    reference_backward,
    _gradients,
    _backward_arguments,
    kernels=("cpp", "triton", "cuda"),
)
operator.register_gradient("apply_curve", _setup, _backward)
