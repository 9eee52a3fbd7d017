"""The fused operations, for any PyTorch code. Each one checks its arguments and calls its operator."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zdce import formulas, registry  # noqa: F401 (registers the operators)
from zdce.formulas import NORMALIZATIONS, Objective, Weights

MAX_ITERATIONS = 16
MAX_SCALE = 2**20
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_PIXELS = (torch.uint8, torch.uint16, torch.float32)


def _check_tensor(name: str, tensor: Tensor, channels: int | None, at_least: int = 1) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in _DTYPES:
        raise TypeError(f"{name} must be float64, float32, bfloat16 or float16, got {tensor.dtype}")
    shape, batch_and_channels = tuple(tensor.shape), f"(B, {channels or '3T'}, H, W)"
    if tensor.dim() != 4 or tensor.shape[1] != (channels or tensor.shape[1]) or min(tensor.shape[2:]) < 1:
        raise ValueError(f"{name} must be {batch_and_channels}, got {shape}")
    if min(tensor.shape[2:]) < at_least or tensor.shape[0] < 1:
        raise ValueError(f"{name} must be {batch_and_channels} with H and W at least {at_least}, got {shape}")


def _check_alike(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Batch, height, width and device must agree."""
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on {other_name}'s device {other.device}, got {tensor.device}")
    if (tensor.shape[0], *tensor.shape[2:]) != (other.shape[0], *other.shape[2:]):
        raise ValueError(
            f"{name} must have {other_name}'s batch, height and width {tuple(other.shape)}, got {tuple(tensor.shape)}"
        )


def _check_iterations(name: str, maps: Tensor, iterations: int | None) -> int:
    """The number of steps T that maps (B, C, H, W) and ``iterations`` agree on."""
    channels = maps.shape[1]
    steps = channels // 3 if iterations is None else iterations
    if channels < 3 or channels % 3 or (channels != 3 and channels != 3 * steps):
        raise ValueError(f"{name} must have 3 channels or 3 for each of T iterations, got {channels} for T = {steps}")
    if not 1 <= steps <= MAX_ITERATIONS:
        raise ValueError(f"iterations must be 1 to {MAX_ITERATIONS}, got {steps}")
    return steps


def _check_picture(name: str, picture: Tensor) -> None:
    if not isinstance(picture, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(picture).__name__}")
    if picture.dtype not in _PIXELS:
        raise TypeError(f"{name} must be uint8, uint16 or float32, got {picture.dtype}")
    if picture.dim() != 3 or picture.shape[2] != 3 or min(picture.shape) < 1:
        raise ValueError(f"{name} must be (H, W, 3) with H and W at least 1, got {tuple(picture.shape)}")


def _check_scale(scale: int) -> None:
    if not 1 <= scale <= MAX_SCALE:
        raise ValueError(f"scale must be 1 to {MAX_SCALE}, got {scale}")


def _check_small_maps(maps: Tensor, picture: Tensor, scale: int) -> None:
    """Maps (1, C, h, w) that belong to ``picture`` (H, W, 3) at ``scale``."""
    _check_tensor("maps", maps, channels=None)
    if maps.dtype == torch.float64:
        raise TypeError("maps must be float32, bfloat16 or float16, got torch.float64")
    if maps.device != picture.device:
        raise ValueError(f"maps must be on picture's device {picture.device}, got {maps.device}")
    height, width = (-(-side // scale) for side in picture.shape[:2])
    if (maps.shape[0], *maps.shape[2:]) != (1, height, width):
        raise ValueError(f"maps must be (1, 3T or 3, {height}, {width}) for this picture and scale, got {tuple(maps.shape)}")
    if maps.requires_grad or picture.requires_grad:
        raise ValueError("picture and maps must not require a gradient: enhance_picture has none, apply_curve has")


def _check_output(out: Tensor, picture: Tensor) -> None:
    _check_picture("out", out)
    if (out.shape, out.dtype, out.device) != (picture.shape, picture.dtype, picture.device):
        raise ValueError(
            f"out must be {tuple(picture.shape)} of {picture.dtype} on {picture.device} as picture is,"
            f" got {tuple(out.shape)} of {out.dtype} on {out.device}"
        )
    if out.stride()[1:] != (3, 1):
        raise ValueError(f"out must have each row's pixels contiguous, strides (any, 3, 1), got {out.stride()}")


def _check_region(region: int) -> int:
    if region < 1:
        raise ValueError(f"region must be at least 1, got {region}")
    return region


def _check_normalization(normalization: str) -> None:
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}")


def apply_curve(image: Tensor, maps: Tensor, iterations: int | None = None) -> Tensor:
    """Light-enhancement curves, T steps of ``x + a * (x^2 - x)`` in one pass (Zero-DCE, eq. 3, with a = -alpha).

    For ``maps`` in [-1, 1] the result stays in [0, 1] and keeps the order of pixel values; a negative map brightens. Backward
    is one pass too, and nothing but the inputs is kept for it.

    Args:
        image: images in [0, 1], shape (B, 3, H, W).
        maps: curve maps in [-1, 1], shape (B, 3T, H, W): step t, from 1, of colour c in channel 3(t-1)+c. Or (B, 3, H, W) with
            ``iterations``: one triplet that all steps share (Zero-DCE++).
        iterations: T, from 1 to 16; None takes it from the channels of ``maps``.

    Returns:
        The enhanced images, shape (B, 3, H, W), in the layout of ``image`` and the wider of the two dtypes; differentiable in
        both arguments.

    Raises:
        TypeError: an argument is not a floating tensor.
        ValueError: shapes, devices or ``iterations`` disagree.

    >>> image, maps = torch.full((1, 3, 2, 2), 0.5), torch.full((1, 24, 2, 2), -0.25)
    >>> round(zdce.ops.apply_curve(image, maps).mean().item(), 4)
    0.8927
    """
    _check_tensor("image", image, channels=3)
    _check_tensor("maps", maps, channels=None)
    _check_alike("maps", maps, "image", image)
    return torch.ops.zdce.apply_curve(image, maps, _check_iterations("maps", maps, iterations))


def reduce_picture(picture: Tensor, scale: int, antialias: bool = True) -> Tensor:
    """A picture made ``scale`` times smaller by area means, as a network takes it.

    Args:
        picture: interleaved as decoded, shape (H, W, 3), uint8, uint16, or float32 in [0, 1]; any strides, and no copy where
            each row's pixels are contiguous.
        scale: side of the averaged squares in pixels; at the border the mean is of those that are there.
        antialias: false takes bilinear samples of four pixels instead, spread evenly from border to border (Zero-DCE++ as
            published; ``interpolate`` with ``align_corners=False``).

    Returns:
        Shape (1, 3, ceil(H / scale), ceil(W / scale)), float32 in [0, 1]; no gradient.

    Raises:
        TypeError, ValueError: arguments are not as above.

    >>> zdce.ops.reduce_picture(torch.full((25, 36, 3), 51, dtype=torch.uint8), 12).shape
    torch.Size([1, 3, 3, 3])
    """
    _check_picture("picture", picture)
    _check_scale(scale)
    return torch.ops.zdce.reduce_picture(picture.detach(), scale, antialias)


def enhance_picture(
    picture: Tensor,
    maps: Tensor,
    iterations: int | None = None,
    *,
    scale: int = 1,
    strength: float = 1.0,
    align_corners: bool = False,
    logits: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """The curves of small maps on a whole picture in one pass: maps interpolated in registers, T steps, rounding.

    Args:
        picture: interleaved as decoded, shape (H, W, 3), uint8, uint16, or float32 in [0, 1]; any strides, and no copy where
            each row's pixels are contiguous.
        maps: curve maps in [-1, 1], shape (1, 3T, ceil(H / scale), ceil(W / scale)), float32, bfloat16 or float16; or with 3
            channels and ``iterations``, shared by all steps.
        iterations: T, from 1 to 16; None takes it from the channels of ``maps``.
        scale: how many times smaller the maps are. They are interpolated bilinearly: pixel (y, x) samples them at
            ``(y + 0.5) / scale - 0.5``, clamped at the border.
        strength: what the maps are multiplied with, clamped to [-1, 1], before they are interpolated: 1 as trained, 0 gives the
            picture back, above 1 stronger, negative darkens.
        align_corners: samples at ``y (h - 1) / (H - 1)`` instead, as Zero-DCE++ was published.
        logits: ``maps`` are what the network's last convolution gives; their tanh is taken first.
        out: written and returned where given, so that frames reuse memory: as ``picture`` in shape, type and device, each row's
            pixels contiguous. ``picture`` itself will do.

    Returns:
        The enhanced picture, (H, W, 3) in the type of ``picture``; integers are rounded to nearest. No gradient.

    Raises:
        TypeError, ValueError: arguments are not as above, or one requires a gradient.

    >>> picture = torch.full((25, 36, 3), 51, dtype=torch.uint8)
    >>> zdce.ops.enhance_picture(picture, torch.full((1, 24, 3, 3), -0.25), scale=12)[0, 0]
    tensor([163, 163, 163], dtype=torch.uint8)
    """
    _check_picture("picture", picture)
    _check_scale(scale)
    _check_small_maps(maps, picture, scale)
    steps = _check_iterations("maps", maps, iterations)
    if not math.isfinite(strength):
        raise ValueError(f"strength must be a finite number, got {strength}")
    if out is None:
        out = torch.empty_like(picture, memory_format=torch.contiguous_format)
    else:
        _check_output(out, picture)
    torch.ops.zdce.enhance_picture(picture, maps, steps, scale, align_corners, strength, logits, out)
    return out


def denoise_picture(picture: Tensor, enhanced: Tensor, noise: float = 1 / 255) -> Tensor:
    """An enhanced picture without what the curve made of its noise: smoothed along edges, as far as the curve brightened.

    Where a curve has the slope g, which the brightness before and after tells, noise of deviation n comes out as g n. Luma is
    averaged over 5 x 5 pixels, those alone whose smoothed luma lies within twice the noise that was added; chroma is blurred by
    a deviation of 2 pixels, wholly where (g - 1) n is two levels of 255. Where the slope is at most 1 nothing changes, and no
    colour becomes white.

    Args:
        picture: before the curve, interleaved, shape (H, W, 3), uint8, uint16, or float32 in [0, 1]; any strides, and no copy
            where each row's pixels are contiguous.
        enhanced: after the curve, (H, W, 3) of the same type.
        noise: standard deviation of the noise of ``picture``, of [0, 1]; one level of 255 unless said.

    Returns:
        Shape (H, W, 3) in the type of ``picture``; integers are rounded to nearest. No gradient.

    Raises:
        TypeError, ValueError: arguments are not as above, or one requires a gradient.

    >>> dark = torch.randint(5, 15, (40, 60, 3), dtype=torch.uint8)
    >>> bool(zdce.ops.denoise_picture(dark, 10 * dark).float().std() < 0.7 * (10 * dark).float().std())
    True
    """
    _check_picture("picture", picture)
    _check_picture("enhanced", enhanced)
    if (enhanced.shape, enhanced.dtype, enhanced.device) != (picture.shape, picture.dtype, picture.device):
        raise ValueError(
            f"enhanced must be {tuple(picture.shape)} of {picture.dtype} on {picture.device} as picture is,"
            f" got {tuple(enhanced.shape)} of {enhanced.dtype} on {enhanced.device}"
        )
    if not 0 <= noise < 1:
        raise ValueError(f"noise must be at least 0 and below 1, got {noise}")
    if picture.requires_grad or enhanced.requires_grad:
        raise ValueError("picture and enhanced must not require a gradient: denoise_picture has none")
    return torch.ops.zdce.denoise_picture(picture, enhanced, noise)


# What feature maps may be kept in beside float32 weights.
_KEPT = {torch.float32, torch.bfloat16}


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


def convolution(
    sources: Sequence[Tensor], weight: Tensor, bias: Tensor, rectified: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    """A 3x3 convolution, stride 1, with zeros around the image, of several tensors concatenated without a copy.

    On the CPU in float32 it is Winograd's F(4x4, 3x3), back too; elsewhere it is torch's own. Channels_last sources of 16
    or 32 channels are read fastest.

    Args:
        sources: images or feature maps, shapes (B, C_i, H, W), all of the weights' dtype; with float32 weights each may be
            bfloat16 too, calculated with in float32.
        weight: filters, shape (O, C, 3, 3), C the sum of the C_i.
        bias: shape (O,).
        rectified: whether a ReLU follows.
        dtype: of the result, and so of its gradient; None is the first source's. Float32 weights give float32 or bfloat16.

    Returns:
        Shape (B, O, H, W), channels_last where O is a multiple of 16, else contiguous; differentiable in all tensors, once.

    Raises:
        TypeError: an argument is not a floating tensor, or dtypes or devices differ otherwise.
        ValueError: there is no source, or shapes disagree.

    >>> ones = torch.ones(1, 1, 3, 3)
    >>> zdce.ops.convolution([ones, ones], torch.ones(1, 2, 3, 3), torch.zeros(1)).round().flatten().tolist()
    [8.0, 12.0, 8.0, 12.0, 18.0, 12.0, 8.0, 12.0, 8.0]
    """
    if not sources:
        raise ValueError("sources must hold at least one tensor, got none")
    for source in sources:
        _check_tensor("sources", source, channels=source.shape[1] if isinstance(source, Tensor) and source.dim() > 1 else None)
        _check_alike("sources", source, "the first source", sources[0])
    _check_parameters(sources, weight, bias)
    dtype = sources[0].dtype if dtype is None else dtype
    allowed = _KEPT if weight.dtype == torch.float32 else {weight.dtype}
    if dtype not in allowed:
        raise TypeError(f"dtype must be {' or '.join(sorted(map(str, allowed)))} with weights of {weight.dtype}, got {dtype}")
    return torch.ops.zdce.convolution(list(sources), weight, bias, rectified, dtype)


def illumination_smoothness(maps: Tensor, normalization: str = "paper") -> Tensor:
    """How much neighbouring curve values differ (Zero-DCE, eq. 7): squared differences along both axes.

    Args:
        maps: curve maps, shape (B, 3T, H, W).
        normalization: ``"paper"`` takes the mean over iterations and pairs; ``"keras"`` the divisors of the Keras example,
            about 10.9 times stronger at 256 x 256.

    Returns:
        A scalar (float64 for float64 input, else float32), differentiable in ``maps``. A direction with no pairs gives 0.

    Raises:
        TypeError, ValueError: ``maps`` is not a floating (B, 3T, H, W), or there is no such normalisation.

    >>> zdce.ops.illumination_smoothness(torch.ones(1, 24, 8, 8))
    tensor(0.)
    """
    _check_tensor("maps", maps, channels=None)
    _check_iterations("maps", maps, None)
    _check_normalization(normalization)
    return formulas.illumination_smoothness(torch.ops.zdce.tv_sums(maps), maps.shape, normalization)


def spatial_consistency(enhanced: Tensor, image: Tensor, region: int = 4) -> Tensor:
    """How much the contrast between neighbouring regions has changed (Zero-DCE, eq. 4).

    Args:
        enhanced: images in [0, 1], shape (B, 3, H, W), H and W at least ``region``.
        image: what they were before, same shape.
        region: side of the averaged squares in pixels; incomplete ones at the border are left out.

    Returns:
        A scalar (float64 for float64 input, else float32), differentiable in both arguments.

    Raises:
        TypeError, ValueError: an argument is not a floating (B, 3, H, W) of at least one region, or they disagree.

    >>> image = torch.rand(1, 3, 8, 8)
    >>> zdce.ops.spatial_consistency(image, image)
    tensor(0.)
    """
    _check_tensor("enhanced", enhanced, channels=3, at_least=_check_region(region))
    _check_tensor("image", image, channels=3, at_least=_check_region(region))
    _check_alike("enhanced", enhanced, "image", image)
    enhanced_means, image_means = (torch.ops.zdce.region_means(x, region) for x in (enhanced, image))
    return formulas.spatial_consistency(enhanced_means, image_means, torch.ops.zdce.tv_sums)


def color_constancy(enhanced: Tensor) -> Tensor:
    """How far each image's mean colour is from grey (Zero-DCE, eq. 6).

    Args:
        enhanced: images in [0, 1], shape (B, 3, H, W).

    Returns:
        A scalar (float64 for float64 input, else float32), differentiable in ``enhanced``; its gradient on grey images is 0.

    Raises:
        TypeError, ValueError: ``enhanced`` is not a floating (B, 3, H, W).

    >>> zdce.ops.color_constancy(torch.full((1, 3, 4, 4), 0.5))
    tensor(0.)
    """
    _check_tensor("enhanced", enhanced, channels=3)
    return formulas.color_constancy(torch.ops.zdce.channel_means(enhanced))


def exposure_control(enhanced: Tensor, target: float = 0.6, region: int = 16) -> Tensor:
    """Squared distance of each region's brightness from a well-exposed level (Zero-DCE, eq. 5, squared as published).

    Args:
        enhanced: images in [0, 1], shape (B, 3, H, W), H and W at least ``region``.
        target: the level E in [0, 1].
        region: side of the averaged squares in pixels; incomplete ones at the border are left out.

    Returns:
        A scalar (float64 for float64 input, else float32), differentiable in ``enhanced``.

    Raises:
        TypeError, ValueError: ``enhanced`` is not a floating (B, 3, H, W) of at least one region.

    >>> zdce.ops.exposure_control(torch.full((1, 3, 32, 32), 0.5), target=0.5)
    tensor(0.)
    """
    _check_tensor("enhanced", enhanced, channels=3, at_least=_check_region(region))
    return formulas.exposure_control(torch.ops.zdce.region_means(enhanced, region), target)


def zero_reference_objective(
    image: Tensor,
    logits: Tensor,
    weights: Weights = Weights(),  # noqa: B008 (immutable)
    target: float = 0.6,
    normalization: str = "paper",
    iterations: int | None = None,
) -> Objective:
    """Zero-DCE's whole training objective, from the network's last convolution: tanh, curve and the four terms.

    Args:
        image: images in [0, 1], shape (B, 3, H, W), H and W at least 16; it gets no gradient.
        logits: what the network gives before tanh, shape (B, 3T, H, W), or (B, 3, H, W) with ``iterations``.
        weights: what each term counts in the total.
        target: the level E in [0, 1] that exposure control aims at.
        normalization: of the illumination term, ``"paper"`` or ``"keras"``.
        iterations: T, from 1 to 16; None takes it from the channels of ``logits``.

    Returns:
        ``Objective(total, illumination, spatial, color, exposure)``: the weighted total and the four unweighted terms, scalars
        (float64 for float64 input, else float32), all differentiable in ``logits``.

    Raises:
        TypeError, ValueError: arguments are not as above, or ``image`` requires a gradient.

    >>> image, logits = torch.full((1, 3, 16, 16), 0.1), torch.zeros(1, 24, 16, 16)
    >>> zdce.ops.zero_reference_objective(image, logits).exposure
    tensor(0.2500)
    """
    _check_tensor("image", image, channels=3, at_least=16)
    _check_tensor("logits", logits, channels=None)
    _check_alike("logits", logits, "image", image)
    steps = _check_iterations("logits", logits, iterations)
    _check_normalization(normalization)
    if image.requires_grad:
        raise ValueError("image must not require a gradient: the objective gives one to logits alone")
    enhanced_regions, image_regions, channel_means, tv_sums = torch.ops.zdce.objective_statistics(image, logits, steps)
    return formulas.objective(
        weights,
        illumination=formulas.illumination_smoothness(tv_sums, logits.shape, normalization),
        spatial=formulas.spatial_consistency(enhanced_regions, image_regions, torch.ops.zdce.tv_sums),
        color=formulas.color_constancy(channel_means),
        exposure=formulas.exposure_control(formulas.coarser(enhanced_regions), target),
    )
