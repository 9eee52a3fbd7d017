"""The operators ``torch.ops.zdce.*``: schema, outputs, autograd, and the way to a backend. All that is computed lies there.

Each operator has one implementation for every device; it allocates the outputs, as the fake does, and a backend writes
them. Backward is an operator of its own and runs on the backend that forward was asked for, its last argument. Compiled code
registers under private namespaces and takes the inputs, then the outputs: (B, C, H, W) tensors with any strides, and for the
curve, which knows no neighbours, (B, C, P) with P = H * W.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zdce import backends

_zdce = torch.library.Library("zdce", "DEF")
_cpp = torch.library.Library("zdce_cpp", "DEF")
_cuda = torch.library.Library("zdce_cuda", "DEF")

# From an operator's inputs and outputs to what a backend's launcher takes.
_Arguments = Callable[..., tuple[tuple[object, ...], tuple[Tensor | None, ...]]]


def _empty(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """An output in the layout of ``like``: channels_last where that is what it has, else contiguous."""
    layout = torch.channels_last if _channels_last(like) else torch.contiguous_format
    return torch.empty_like(like, dtype=dtype, memory_format=layout)


def _channels_last(tensor: Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _statistic(shape: tuple[int, ...], *inputs: Tensor) -> Tensor:
    """A small output: float64 where an input is, else float32."""
    wide = any(tensor.dtype == torch.float64 for tensor in inputs)
    return inputs[0].new_empty(shape, dtype=torch.float64 if wide else torch.float32)


def _as_they_are(inputs: tuple[object, ...], outputs: tuple[Tensor, ...]) -> Any:
    return inputs, outputs


def _operator(schema: str, kernel: str, allocate: Callable[..., Any], arguments: _Arguments = _as_they_are) -> None:
    """Defines ``zdce::<schema>`` and, for compiled code, ``<kernel>`` with the same name.

    ``allocate`` takes the operator's arguments and makes its outputs; ``arguments`` turns inputs (backward's without the
    backend) and outputs into what launchers take.
    """
    name = schema.partition("(")[0]
    _zdce.define(schema)
    _cpp.define(kernel)
    if name in backends.CUDA_OPERATORS:
        _cuda.define(kernel)

    backward = name.endswith("_backward")

    def compute(*values: Any) -> Any:
        inputs, backend = (values[:-1], values[-1]) if backward else (values, backends.requested())
        outputs = allocate(*values)
        backends.launch(name, *arguments(inputs, outputs if isinstance(outputs, tuple) else (outputs,)), backend)
        return outputs

    _zdce.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"zdce::{name}", allocate, lib=_zdce)


def _autograd(name: str, setup: Callable[..., None], backward: Callable[..., Any]) -> None:
    def setup_with_backend(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.backend = backends.requested()
        setup(ctx, inputs, output)

    torch.library.register_autograd(f"zdce::{name}", backward, setup_context=setup_with_backend, lib=_zdce)


# apply_curve: image (B, 3, H, W), maps (B, 3T or 3, H, W) -> enhanced (B, 3, H, W).


def _planes(tensor: Tensor) -> Tensor:
    """(B, C, H, W) as (B, C, P): a view of contiguous and channels_last tensors and of their channel slices, else a copy."""
    return tensor.flatten(2)


def _curve_output(image: Tensor, maps: Tensor, iterations: int) -> Tensor:
    return _empty(image, torch.promote_types(image.dtype, maps.dtype))


def _curve_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    image, maps, iterations = inputs
    return (_planes(image), _planes(maps), iterations), (_planes(outputs[0]),)


def _curve_gradients(
    grad: Tensor, image: Tensor, maps: Tensor, iterations: int, image_wanted: bool, maps_wanted: bool, backend: str
) -> tuple[Tensor, Tensor]:
    # A gradient that nobody wants is an empty tensor: operators can't return None in a schema that compiles.
    return (
        _empty(image) if image_wanted else image.new_empty(0),
        _empty(maps) if maps_wanted else maps.new_empty(0),
    )


def _curve_backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, image, maps, iterations, *wanted = inputs
    grads = tuple(_planes(output) if want else None for output, want in zip(outputs, wanted, strict=True))
    return (_planes(grad), _planes(image), _planes(maps), iterations), grads


def _curve_setup(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    image, maps, ctx.iterations = inputs
    ctx.save_for_backward(image, maps)


def _curve_autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    image, maps = ctx.saved_tensors
    image_wanted, maps_wanted, _ = ctx.needs_input_grad
    grad_image, grad_maps = torch.ops.zdce.apply_curve_backward(
        grad, image, maps, ctx.iterations, image_wanted, maps_wanted, ctx.backend
    )
    return grad_image if image_wanted else None, grad_maps if maps_wanted else None, None


_operator(
    "apply_curve(Tensor image, Tensor maps, int iterations) -> Tensor",
    "apply_curve(Tensor image, Tensor maps, int iterations, Tensor(a!) enhanced) -> ()",
    _curve_output,
    _curve_arguments,
)
_operator(
    "apply_curve_backward(Tensor grad, Tensor image, Tensor maps, int iterations,"
    " bool image_wanted, bool maps_wanted, str backend) -> (Tensor, Tensor)",
    "apply_curve_backward(Tensor grad, Tensor image, Tensor maps, int iterations,"
    " Tensor(a!)? grad_image, Tensor(b!)? grad_maps) -> ()",
    _curve_gradients,
    _curve_backward_arguments,
)
_autograd("apply_curve", _curve_setup, _curve_autograd)


# region_means: image (B, 3, H, W) -> (B, H // region, W // region). channel_means: image (B, 3, H, W) -> (B, 3).
# Backward needs of the image what it looks like, not what it shows: nothing is kept.


def _regions(image: Tensor, region: int) -> Tensor:
    batch, _, height, width = image.shape
    return _statistic((batch, height // region, width // region), image)


def _channels(image: Tensor) -> Tensor:
    return _statistic((image.shape[0], 3), image)


def _image(grad: Tensor, height: int, width: int, dtype: torch.dtype, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((grad.shape[0], 3, height, width), dtype=dtype, device=grad.device, memory_format=layout)


def _region_gradients(
    grad: Tensor, region: int, height: int, width: int, dtype: torch.dtype, channels_last: bool, backend: str
) -> Tensor:
    return _image(grad, height, width, dtype, channels_last)


def _channel_gradients(grad: Tensor, height: int, width: int, dtype: torch.dtype, channels_last: bool, backend: str) -> Tensor:
    return _image(grad, height, width, dtype, channels_last)


def _region_backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, region, height, width, *_ = inputs
    return (grad.contiguous(), region, height, width), outputs


def _channel_backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, height, width, *_ = inputs
    return (grad.contiguous(), height, width), outputs


def _means_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, *ctx.region = inputs
    ctx.image = (*image.shape[2:], image.dtype, _channels_last(image))


def _region_autograd(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return torch.ops.zdce.region_means_backward(grad, *ctx.region, *ctx.image, ctx.backend), None


def _channel_autograd(ctx: Any, grad: Tensor) -> Tensor:
    return torch.ops.zdce.channel_means_backward(grad, *ctx.image, ctx.backend)


_operator(
    "region_means(Tensor image, int region) -> Tensor",
    "region_means(Tensor image, int region, Tensor(a!) means) -> ()",
    _regions,
)
_operator(
    "region_means_backward(Tensor grad, int region, SymInt height, SymInt width, ScalarType dtype, bool channels_last,"
    " str backend) -> Tensor",
    "region_means_backward(Tensor grad, int region, int height, int width, Tensor(a!) grad_image) -> ()",
    _region_gradients,
    _region_backward_arguments,
)
_autograd("region_means", _means_setup, _region_autograd)

_operator(
    "channel_means(Tensor image) -> Tensor",
    "channel_means(Tensor image, Tensor(a!) means) -> ()",
    _channels,
)
_operator(
    "channel_means_backward(Tensor grad, SymInt height, SymInt width, ScalarType dtype, bool channels_last, str backend)"
    " -> Tensor",
    "channel_means_backward(Tensor grad, int height, int width, Tensor(a!) grad_image) -> ()",
    _channel_gradients,
    _channel_backward_arguments,
)
_autograd("channel_means", _means_setup, _channel_autograd)


# tv_sums: maps (B, C, H, W) -> (2,).


def _tv_gradients(grad: Tensor, maps: Tensor, backend: str) -> Tensor:
    return _empty(maps)


def _tv_backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, maps = inputs
    return (grad.contiguous(), maps), outputs


def _tv_setup(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _tv_autograd(ctx: Any, grad: Tensor) -> Tensor:
    return torch.ops.zdce.tv_sums_backward(grad, *ctx.saved_tensors, ctx.backend)


_operator(
    "tv_sums(Tensor maps) -> Tensor",
    "tv_sums(Tensor maps, Tensor(a!) sums) -> ()",
    lambda maps: _statistic((2,), maps),
)
_operator(
    "tv_sums_backward(Tensor grad, Tensor maps, str backend) -> Tensor",
    "tv_sums_backward(Tensor grad, Tensor maps, Tensor(a!) grad_maps) -> ()",
    _tv_gradients,
    _tv_backward_arguments,
)
_autograd("tv_sums", _tv_setup, _tv_autograd)


# objective_statistics: image (B, 3, H, W), logits (B, 3T or 3, H, W) -> 4 x 4 region means (B, H // 4, W // 4) of the enhanced
# image and of the image, channel means (B, 3) of the enhanced image, tv_sums (2,) of the maps.


def _objective_outputs(image: Tensor, logits: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, _, height, width = image.shape
    shapes = ((batch, height // 4, width // 4), (batch, height // 4, width // 4), (batch, 3), (2,))
    enhanced_regions, image_regions, channels, tv = (_statistic(shape, image, logits) for shape in shapes)
    return enhanced_regions, image_regions, channels, tv


def _objective_gradients(
    grad_regions: Tensor, grad_channels: Tensor, grad_tv: Tensor, image: Tensor, logits: Tensor, iterations: int, backend: str
) -> Tensor:
    return _empty(logits)


def _objective_backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    return (*(grad.contiguous() for grad in inputs[:3]), *inputs[3:]), outputs


def _objective_setup(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, ...]) -> None:
    image, logits, ctx.iterations = inputs
    ctx.save_for_backward(image, logits)
    ctx.mark_non_differentiable(output[1])


def _objective_autograd(
    ctx: Any, grad_regions: Tensor, _: Tensor, grad_channels: Tensor, grad_tv: Tensor
) -> tuple[None, Tensor, None]:
    grads = (grad_regions, grad_channels, grad_tv)
    return None, torch.ops.zdce.objective_statistics_backward(*grads, *ctx.saved_tensors, ctx.iterations, ctx.backend), None


_operator(
    "objective_statistics(Tensor image, Tensor logits, int iterations) -> (Tensor, Tensor, Tensor, Tensor)",
    "objective_statistics(Tensor image, Tensor logits, int iterations, Tensor(a!) enhanced_regions,"
    " Tensor(b!) image_regions, Tensor(c!) channel_means, Tensor(d!) tv_sums) -> ()",
    _objective_outputs,
)
_operator(
    "objective_statistics_backward(Tensor grad_regions, Tensor grad_channels, Tensor grad_tv, Tensor image, Tensor logits,"
    " int iterations, str backend) -> Tensor",
    "objective_statistics_backward(Tensor grad_regions, Tensor grad_channels, Tensor grad_tv, Tensor image, Tensor logits,"
    " int iterations, Tensor(a!) grad_logits) -> ()",
    _objective_gradients,
    _objective_backward_arguments,
)
_autograd("objective_statistics", _objective_setup, _objective_autograd)


# reduce_picture: picture (H, W, 3) -> (1, 3, ceil(H / scale), ceil(W / scale)).
# enhance_picture: picture (H, W, 3), maps (1, 3T or 3, ceil(H / scale), ceil(W / scale)) -> enhanced, an argument that is
# written, so that a caller may bring its memory. Neither has a gradient.


def _reduced(picture: Tensor, scale: int, antialias: bool) -> Tensor:
    height, width = (-(-side // scale) for side in picture.shape[:2])
    return picture.new_empty((1, 3, height, width), dtype=torch.float32)


def _interleaved(picture: Tensor) -> Tensor:
    """The picture with each row's pixels contiguous; rows may lie apart."""
    return picture if picture.stride(2) == 1 and picture.stride(1) == 3 else picture.contiguous()


def _reduce_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    picture, *how = inputs
    return (_interleaved(picture), *how), outputs


def _enhance_picture(
    picture: Tensor,
    maps: Tensor,
    iterations: int,
    scale: int,
    align_corners: bool,
    strength: float,
    logits: bool,
    enhanced: Tensor,
) -> None:
    inputs = (_interleaved(picture), maps, iterations, scale, align_corners, strength, logits)
    backends.launch("enhance_picture", inputs, (enhanced,), backends.requested())


_operator(
    "reduce_picture(Tensor picture, int scale, bool antialias) -> Tensor",
    "reduce_picture(Tensor picture, int scale, bool antialias, Tensor(a!) small) -> ()",
    _reduced,
    _reduce_arguments,
)

_ENHANCE_PICTURE = (
    "enhance_picture(Tensor picture, Tensor maps, int iterations, int scale, bool align_corners, float strength, bool logits,"
    " Tensor(a!) enhanced) -> ()"
)
_zdce.define(_ENHANCE_PICTURE)
_cpp.define(_ENHANCE_PICTURE)
_zdce.impl("enhance_picture", _enhance_picture, "CompositeExplicitAutograd")
torch.library.register_fake("zdce::enhance_picture", lambda *_: None, lib=_zdce)


# denoise_picture: picture, enhanced (H, W, 3) -> (H, W, 3). No gradient.


def _denoised(picture: Tensor, enhanced: Tensor, noise: float) -> Tensor:
    return torch.empty_like(enhanced, memory_format=torch.contiguous_format)


def _denoise_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    picture, enhanced, noise = inputs
    return (_interleaved(picture), _interleaved(enhanced), noise), outputs


_operator(
    "denoise_picture(Tensor picture, Tensor enhanced, float noise) -> Tensor",
    "denoise_picture(Tensor picture, Tensor enhanced, float noise, Tensor(a!) denoised) -> ()",
    _denoised,
    _denoise_arguments,
)


# convolution: sources (B, C_i, H, W) each, weight (O, sum of C_i, 3, 3), bias (O,) -> (B, O, H, W). Backward keeps sources and
# output, so that in bfloat16 they take half the memory.

# The kernels take 16 channels of a pixel at a time; the objective, which reads the last layer's, prefers planes.
_CHANNELS_LAST_STEP = 16


def _convolution_output(sources: list[Tensor], weight: Tensor, bias: Tensor, rectified: bool, dtype: torch.dtype) -> Tensor:
    (batch, _, height, width), channels = sources[0].shape, weight.shape[0]
    layout = torch.contiguous_format if channels % _CHANNELS_LAST_STEP else torch.channels_last
    return torch.empty((batch, channels, height, width), dtype=dtype, device=sources[0].device, memory_format=layout)


def _convolution_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    sources, weight, bias, rectified, _ = inputs
    return (sources, weight.contiguous(), bias.contiguous(), rectified), outputs


def _convolution_gradients(
    grad: Tensor,
    sources: list[Tensor],
    weight: Tensor,
    output: Tensor | None,
    sources_wanted: list[bool],
    parameters_wanted: bool,
    backend: str,
) -> tuple[list[Tensor], Tensor, Tensor]:
    # Those that nobody wants are empty, as the curve's.
    shape = weight.shape if parameters_wanted else (0,)
    return (
        [_empty(source) if wanted else source.new_empty(0) for source, wanted in zip(sources, sources_wanted, strict=True)],
        weight.new_empty(shape),
        weight.new_empty(shape[:1]),
    )


def _convolution_backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> Any:
    grad, sources, weight, output, *_ = inputs
    return (grad, sources, weight.contiguous(), output), outputs


def _convolution_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    sources, weight, _, rectified, _ = inputs
    ctx.save_for_backward(weight, *([output] if rectified else []), *sources)
    ctx.rectified = rectified


def _convolution_autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    weight, *others = ctx.saved_tensors
    output = others.pop(0) if ctx.rectified else None
    sources_wanted, weight_wanted, bias_wanted, *_ = ctx.needs_input_grad
    grad_sources, grad_weight, grad_bias = torch.ops.zdce.convolution_backward(
        grad, others, weight, output, sources_wanted, weight_wanted or bias_wanted, ctx.backend
    )
    return (
        [each if wanted else None for each, wanted in zip(grad_sources, sources_wanted, strict=True)],
        grad_weight if weight_wanted else None,
        grad_bias if bias_wanted else None,
        None,
        None,
    )


_operator(
    "convolution(Tensor[] sources, Tensor weight, Tensor bias, bool rectified, ScalarType dtype) -> Tensor",
    "convolution(Tensor[] sources, Tensor weight, Tensor bias, bool rectified, Tensor(a!) result) -> ()",
    _convolution_output,
    _convolution_arguments,
)
_operator(
    "convolution_backward(Tensor grad, Tensor[] sources, Tensor weight, Tensor? output, bool[] sources_wanted,"
    " bool parameters_wanted, str backend) -> (Tensor[], Tensor, Tensor)",
    "convolution_backward(Tensor grad, Tensor[] sources, Tensor weight, Tensor? output, Tensor(a!)[] grad_sources,"
    " Tensor(b!) grad_weight, Tensor(c!) grad_bias) -> ()",
    _convolution_gradients,
    _convolution_backward_arguments,
)
_autograd("convolution", _convolution_setup, _convolution_autograd)


# The inference engine: compiled code only, behind ``zdce.engine``.
_cpp.define("packed_size(Tensor plan) -> int")
_cpp.define("pack_network(Tensor parameters, Tensor plan, Tensor(a!) packed) -> ()")
_cpp.define("run_network(Tensor picture, Tensor plan, Tensor packed, float strength, bool maps, Tensor(a!) result) -> ()")
