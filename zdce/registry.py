"""The operators ``torch.ops.zdce.*``: schema, outputs, autograd, and the way to a backend. All that is computed lies there.

Each operator has one implementation for every device; it allocates the outputs, as the fake does, and a backend writes
them. Backward is an operator of its own and runs on the backend that forward was asked for. Compiled code registers under
private namespaces and takes (B, C, P) tensors with any strides, P = H * W.
"""

from typing import Any

import torch
from torch import Tensor

from zdce import backends

_zdce = torch.library.Library("zdce", "DEF")
_cpp = torch.library.Library("zdce_cpp", "DEF")
_cuda = torch.library.Library("zdce_cuda", "DEF")


def _empty(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An output in the layout of ``like``: channels_last where that is what it has, else contiguous."""
    channels_last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty_like(like, dtype=dtype, memory_format=layout)


def _planes(tensor: Tensor) -> Tensor:
    """(B, C, H, W) as (B, C, P): a view of contiguous and channels_last tensors and of their channel slices, else a copy."""
    return tensor.flatten(2)


def _implement(name: str, implementation: Any, fake: Any) -> None:
    _zdce.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"zdce::{name}", fake, lib=_zdce)


# apply_curve: image (B, 3, H, W), maps (B, 3T or 3, H, W) -> enhanced (B, 3, H, W).

_zdce.define("apply_curve(Tensor image, Tensor maps, int iterations) -> Tensor")
_zdce.define(
    "apply_curve_backward(Tensor grad, Tensor image, Tensor maps, int iterations,"
    " bool image_wanted, bool maps_wanted, str backend) -> (Tensor, Tensor)"
)
for _compiled in (_cpp, _cuda):
    _compiled.define("apply_curve(Tensor image, Tensor maps, int iterations, Tensor(a!) enhanced) -> ()")
    _compiled.define(
        "apply_curve_backward(Tensor grad, Tensor image, Tensor maps, int iterations,"
        " Tensor(a!)? grad_image, Tensor(b!)? grad_maps) -> ()"
    )


def _curve_output(image: Tensor, maps: Tensor, iterations: int) -> Tensor:
    return _empty(image, torch.promote_types(image.dtype, maps.dtype))


def _curve(image: Tensor, maps: Tensor, iterations: int) -> Tensor:
    enhanced = _curve_output(image, maps, iterations)
    inputs = (_planes(image), _planes(maps), iterations)
    backends.launch("apply_curve", inputs, (_planes(enhanced),), backends.requested())
    return enhanced


def _curve_gradients(
    grad: Tensor, image: Tensor, maps: Tensor, iterations: int, image_wanted: bool, maps_wanted: bool, backend: str
) -> tuple[Tensor, Tensor]:
    # A gradient that nobody wants is an empty tensor: operators can't return None in a schema that compiles.
    return (
        _empty(image) if image_wanted else image.new_empty(0),
        _empty(maps) if maps_wanted else maps.new_empty(0),
    )


def _curve_backward(
    grad: Tensor, image: Tensor, maps: Tensor, iterations: int, image_wanted: bool, maps_wanted: bool, backend: str
) -> tuple[Tensor, Tensor]:
    grads = _curve_gradients(grad, image, maps, iterations, image_wanted, maps_wanted, backend)
    outputs = (_planes(grads[0]) if image_wanted else None, _planes(grads[1]) if maps_wanted else None)
    backends.launch("apply_curve_backward", (_planes(grad), _planes(image), _planes(maps), iterations), outputs, backend)
    return grads


def _curve_setup(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    image, maps, ctx.iterations = inputs
    ctx.save_for_backward(image, maps)
    ctx.backend = backends.requested()


def _curve_autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    image, maps = ctx.saved_tensors
    image_wanted, maps_wanted, _ = ctx.needs_input_grad
    grad_image, grad_maps = torch.ops.zdce.apply_curve_backward(
        grad, image, maps, ctx.iterations, image_wanted, maps_wanted, ctx.backend
    )
    return grad_image if image_wanted else None, grad_maps if maps_wanted else None, None


_implement("apply_curve", _curve, _curve_output)
_implement("apply_curve_backward", _curve_backward, _curve_gradients)
torch.library.register_autograd("zdce::apply_curve", _curve_autograd, setup_context=_curve_setup, lib=_zdce)
