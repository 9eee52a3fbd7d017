"""``convolution``: sources (B, C_i, H, W) each, weight (O, sum of C_i, 3, 3), bias (O,) -> (B, O, H, W)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn import grad as grad_of

from zdce.ops import operator
from zdce.ops.arguments import check_alike, check_tensor

# Types of feature maps with float32 weights.
_KEPT = {torch.float32, torch.bfloat16}


def convolution(
    sources: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    rectified: bool = False,
    dtype: torch.dtype | None = None,
    bf16_products: bool = False,
) -> Tensor:
    """A 3x3 convolution, stride 1, padded with zeros, of several tensors that are concatenated without a copy.

    On the CPU in float32, forward and backward use Winograd's F(4x4, 3x3), or with ``bf16_products`` the matrix unit of
    processors with AMX; elsewhere torch's convolution runs. Channels_last sources of 16 or 32 channels are fastest.

    Args:
        sources: images or feature maps, shapes (B, C_i, H, W), all sides at least 1, in the dtype of the weights; with float32
            weights each may also be bfloat16, and the arithmetic is in float32.
        weight: filters, shape (O, C, 3, 3), C the sum of the C_i.
        bias: shape (O,).
        rectified: whether a ReLU follows.
        dtype: dtype of the result and its gradient; None: that of the first source. With float32 weights, float32 or bfloat16.
        bf16_products: whether sources, float32 weights and the result's gradient are rounded to bfloat16 before they are
            multiplied, forward and backward; sums are float32. Only Linux's kernels for processors with AMX round.

    Returns:
        Shape (B, O, H, W), channels_last if O is a multiple of 16, otherwise contiguous; differentiable in all tensors.

    Raises:
        TypeError: an argument is not a floating tensor, or dtypes or devices differ in another way.
        ValueError: there is no source, or shapes disagree.

    >>> ones = torch.ones(1, 1, 3, 3)
    >>> zdce.ops.convolution([ones, ones], torch.ones(1, 2, 3, 3), torch.zeros(1)).round().flatten().tolist()
    [8.0, 12.0, 8.0, 12.0, 18.0, 12.0, 8.0, 12.0, 8.0]
    """
    if not isinstance(sources, Sequence):
        raise TypeError(f"sources must be a sequence of tensors, got a {type(sources).__name__}")
    if not sources:
        raise ValueError("sources must hold at least one tensor, got none")
    for source in sources:
        check_tensor(
            "sources", source, channels=max(source.shape[1], 1) if isinstance(source, Tensor) and source.dim() > 1 else 1
        )
        check_alike("sources", source, "the first source", sources[0])
    _check_parameters(sources, weight, bias)
    dtype = sources[0].dtype if dtype is None else dtype
    allowed = _KEPT if weight.dtype == torch.float32 else {weight.dtype}
    if dtype not in allowed:
        raise TypeError(f"dtype must be {' or '.join(sorted(map(str, allowed)))} with weights of {weight.dtype}, got {dtype}")
    return operator.call("convolution", list(sources), weight, bias, rectified, dtype, bf16_products).to(dtype)


def _check_parameters(sources: Sequence[Tensor], weight: Tensor, bias: Tensor) -> None:
    channels = sum(source.shape[1] for source in sources)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if weight.dim() != 4 or tuple(weight.shape[1:]) != (channels, 3, 3) or weight.shape[0] < 1:
        raise ValueError(f"weight must be (O, {channels}, 3, 3), got {tuple(weight.shape)}")
    if tuple(bias.shape) != tuple(weight.shape[:1]):
        raise ValueError(f"bias must be ({weight.shape[0]},), got {tuple(bias.shape)}")
    kept = weight.dtype == torch.float32 and all(source.dtype in _KEPT for source in sources)
    expected, whose = (weight.dtype, "weight") if kept else (sources[0].dtype, "the first source")
    typed = [] if kept else [("sources", source) for source in sources]
    for name, tensor in (*typed, ("weight", weight), ("bias", bias)):
        if (tensor.dtype, tensor.device) != (expected, sources[0].device):
            raise TypeError(
                f"{name} must be {expected} on {sources[0].device} as {whose} is, got {tensor.dtype} on {tensor.device}"
            )


# The float64 reference.


def reference(sources: list[Tensor], weight: Tensor, bias: Tensor, rectified: bool, bf16_products: bool = False) -> Tensor:
    """The 3x3 convolution of the concatenated ``sources`` (B, C_i, H, W), padded with zeros, with a ReLU if ``rectified``."""
    # Eager: the concatenation and the ReLU are passes of their own. Fused: 4 bytes read a channel in, 4 written a channel out.
    x, weight = _multiplied(concatenated(sources), bf16_products), _multiplied(weight, bf16_products)
    x = functional.conv2d(x, weight, bias, padding=1)
    return functional.relu(x) if rectified else x


def concatenated(sources: Sequence[Tensor]) -> Tensor:
    """``sources`` (B, C_i, H, W) as one tensor; a single one is not copied."""
    return torch.cat(list(sources), 1) if len(sources) > 1 else sources[0]


def _multiplied(x: Tensor, bf16_products: bool) -> Tensor:
    """``x`` as products take it; its gradient passes unrounded."""
    return x + (x.bfloat16().to(x.dtype) - x).detach() if bf16_products else x


def reference_backward(
    grad: Tensor, sources: list[Tensor], weight: Tensor, output: Tensor | None, bf16_products: bool = False
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Gradients of sources, weight and bias from ``grad`` and, if there was a ReLU, ``output`` (B, O, H, W)."""
    # Fused: 4 bytes read a channel of grad, of output and of each source, 4 written a channel of each source.
    grad = grad if output is None else torch.where(output <= 0, 0.0, grad)
    grad, weight = _multiplied(grad, bf16_products), _multiplied(weight, bf16_products)
    x = _multiplied(concatenated(sources), bf16_products)
    grad_x = grad_of.conv2d_input(x.shape, weight, grad, padding=1)
    grad_weight = grad_of.conv2d_weight(x, weight.shape, grad, padding=1)
    return list(grad_x.split([source.shape[1] for source in sources], 1)), grad_weight, grad.sum((0, 2, 3))


# The operator. Sources and output are saved for backward; in bfloat16 they take half the memory.

# The kernels process 16 channels of a pixel at a time; the objective reads the last layer's output fastest in planes.
_CHANNELS_LAST_STEP = 16


def _output(
    sources: list[Tensor], weight: Tensor, bias: Tensor, rectified: bool, dtype: torch.dtype, bf16_products: bool
) -> Tensor:
    (batch, _, height, width), channels = sources[0].shape, weight.shape[0]
    layout = torch.contiguous_format if channels % _CHANNELS_LAST_STEP else torch.channels_last
    return torch.empty((batch, channels, height, width), dtype=dtype, device=sources[0].device, memory_format=layout)


def _without_dtype(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    sources, weight, bias, rectified, _, bf16_products = inputs
    return sources, weight, bias, rectified, bf16_products


def _gradients(
    grad: Tensor,
    sources: list[Tensor],
    weight: Tensor,
    output: Tensor | None,
    sources_wanted: list[bool],
    parameters_wanted: bool,
    bf16_products: bool,
    backend: str,
) -> tuple[list[Tensor], Tensor, Tensor]:
    # Gradients that are not needed are empty, as in apply_curve.
    shape = weight.shape if parameters_wanted else (0,)
    return (
        [
            operator.empty_in_layout(source) if wanted else source.new_empty(0)
            for source, wanted in zip(sources, sources_wanted, strict=True)
        ],
        weight.new_empty(shape),
        weight.new_empty(shape[:1]),
    )


def _backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> Any:
    grad, sources, weight, output, _, _, bf16_products = inputs
    return (grad, sources, weight.contiguous(), output, bf16_products), outputs


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    sources, weight, _, rectified, _, bf16_products = inputs
    ctx.save_for_backward(weight, *([output] if rectified else []), *sources)
    ctx.rectified, ctx.bf16_products = rectified, bf16_products


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    weight, *others = ctx.saved_tensors
    output = others.pop(0) if ctx.rectified else None
    sources_wanted, weight_wanted, bias_wanted, *_ = ctx.needs_input_grad
    grad_sources, grad_weight, grad_bias = operator.call_backward(
        "convolution_backward",
        grad,
        others,
        weight,
        output,
        sources_wanted,
        weight_wanted or bias_wanted,
        ctx.bf16_products,
        ctx.backend,
    )
    return (
        [each if wanted else None for each, wanted in zip(grad_sources, sources_wanted, strict=True)],
        grad_weight if weight_wanted else None,
        grad_bias if bias_wanted else None,
        None,
        None,
        None,
    )


operator.define(
    "convolution(Tensor[] sources, Tensor weight, Tensor bias, bool rectified, ScalarType dtype, bool bf16_products) -> Tensor",
    "convolution(Tensor[] sources, Tensor weight, Tensor bias, bool rectified, bool bf16_products, Tensor(a!) result) -> ()",
    reference,
    _output,
    operator.contiguous,
    inputs=_without_dtype,
    kernels=("cpp",),
    float32_only=True,
)
operator.define(
    "convolution_backward(Tensor grad, Tensor[] sources, Tensor weight, Tensor? output, bool[] sources_wanted,"
    " bool parameters_wanted, bool bf16_products, str backend) -> (Tensor[], Tensor, Tensor)",
    "convolution_backward(Tensor grad, Tensor[] sources, Tensor weight, Tensor? output, bool bf16_products,"
    " Tensor(a!)[] grad_sources, Tensor(b!) grad_weight, Tensor(c!) grad_bias) -> ()",
    reference_backward,
    _gradients,
    _backward_arguments,
    kernels=("cpp",),
    float32_only=True,
)
operator.register_gradient("convolution", _setup, _backward)
