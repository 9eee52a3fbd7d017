"""``tv_sums``: maps (B, C, H, W) -> (2,)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zdce.ops import operator

# The float64 reference.

# One more at both ends of an axis, as ``functional.pad`` takes it.
_BOTH_ENDS = {2: (0, 0, 1, 1), 3: (1, 1)}


def reference(maps: Tensor) -> Tensor:
    """Sums of the squared differences of neighbours along y and along x, (2,)."""
    # 96 bytes read; eager reads them several times and writes both differences.
    return torch.stack([maps.diff(dim=2).square().sum(), maps.diff(dim=3).square().sum()])


def reference_backward(grad: Tensor, maps: Tensor) -> Tensor:
    """Gradient of ``maps`` from ``grad`` (2,) of their sums."""
    # 96 bytes read and 96 written, the neighbours coming from cache.
    grad_maps = torch.zeros_like(maps)
    for axis, grad_sum in zip((2, 3), grad, strict=True):
        slopes = 2 * grad_sum * maps.diff(dim=axis)
        # Not in place: with torch.func, grad can be a batch where maps are not.
        grad_maps = grad_maps - functional.pad(slopes, _BOTH_ENDS[axis]).diff(dim=axis)
    return grad_maps


# The operator.


def _output(maps: Tensor) -> Tensor:
    return operator.empty_statistic((2,), maps)


def _gradient(grad: Tensor, maps: Tensor, backend: str) -> Tensor:
    return operator.empty_in_layout(maps)


def _backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, maps = inputs
    return (grad.contiguous(), maps), outputs


def _setup(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    return operator.call_backward("tv_sums_backward", grad, *ctx.saved_tensors, ctx.backend)


operator.define(
    "tv_sums(Tensor maps) -> Tensor",
    "tv_sums(Tensor maps, Tensor(a!) sums) -> ()",
    reference,
    _output,
)
operator.define(
    "tv_sums_backward(Tensor grad, Tensor maps, str backend) -> Tensor",
    "tv_sums_backward(Tensor grad, Tensor maps, Tensor(a!) grad_maps) -> ()",
    reference_backward,
    _gradient,
    _backward_arguments,
)
operator.register_gradient("tv_sums", _setup, _backward)
