"""``enhance_picture``: picture (H, W, 3), maps (1, 3T, 3 or 2, ceil(H / scale), ceil(W / scale)) -> enhanced (H, W, 3)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from zdce.interleaved import fractions, to_dtype, with_contiguous_rows
from zdce.ops import operator
from zdce.ops.apply_curve import reference as curve_reference
from zdce.ops.arguments import check_iterations, check_picture, check_scale, check_tensor, check_whole
from zdce.ops.luma import luma
from zdce.settings import GUIDED, MAX_ITERATIONS


def enhance_picture(
    picture: Tensor,
    maps: Tensor,
    iterations: int | None = None,
    *,
    scale: int = 1,
    strength: float | Tensor = 1.0,
    align_corners: bool = False,
    logits: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Applies the curves of small maps to a picture in one pass: interpolation of the maps in registers, T steps, rounding.

    Args:
        picture: interleaved as decoded, shape (H, W, 3), uint8, uint16, or float32 in [0, 1]; any strides, and no copy where
            each row's pixels are contiguous.
        maps: curve maps in [-1, 1], shape (1, 3T, ceil(H / scale), ceil(W / scale)), float32, bfloat16 or float16; or with 3
            channels and ``iterations``, shared by all steps. With 2 channels a and b and ``iterations`` the maps are guided: a
            pixel of luma Y has the one map ``a Y + b``, cut to [-1, 0] before and to [-1, 1] after it is multiplied with
            ``strength``, for all colours and steps; a and b are any finite numbers (``zdce.models.guidance`` fits them).
        iterations: T, from 1 to 16; None takes it from the channels of ``maps``.
        scale: how many times smaller the maps are. They are interpolated bilinearly: pixel (y, x) samples them at
            ``(y + 0.5) / scale - 0.5``, clamped at the border.
        strength: factor of the maps before interpolation; the products are clamped to [-1, 1]. 1: as trained; 0: the picture
            unchanged; above 1: stronger; negative: darker. A tensor of one float32 number on the picture's device is read
            there, without waiting for it.
        align_corners: whether maps are sampled at ``y (h - 1) / (H - 1)`` instead, as published for Zero-DCE++.
        logits: whether ``maps`` are the output of the network's last convolution; their tanh is taken first.
            Guided maps are no logits.
        out: tensor that the result is written to and that is returned, so that frames can reuse memory; it has the shape, type
            and device of ``picture`` and contiguous pixels in each row, and may be ``picture`` itself. Otherwise it shares no
            memory with ``picture`` or ``maps``. Autograd knows that it was changed.

    Returns:
        The enhanced picture, (H, W, 3) in the type of ``picture``; integers are rounded to nearest. No gradient.

    Raises:
        TypeError, ValueError: arguments are not as above, or one requires a gradient.

    >>> picture = torch.full((25, 36, 3), 51, dtype=torch.uint8)
    >>> zdce.ops.enhance_picture(picture, torch.full((1, 24, 3, 3), -0.25), scale=12)[0, 0]
    tensor([163, 163, 163], dtype=torch.uint8)
    """
    check_picture("picture", picture)
    check_scale(scale)
    _check_small_maps(maps, picture, scale)
    steps = _checked_iterations(maps, iterations, logits)
    factor = _checked_strength(strength, picture)
    if out is None:
        out = torch.empty_like(picture, memory_format=torch.contiguous_format)
    else:
        _check_output(out, picture)
        _check_memory(out, picture, maps)
    number = 1.0 if isinstance(strength, Tensor) else strength
    torch.ops.zdce.enhance_picture(picture, maps, steps, scale, align_corners, number, logits, factor, out)
    return out


def _checked_strength(strength: float | Tensor, picture: Tensor) -> Tensor | None:
    """``strength`` if it is a tensor."""
    if not isinstance(strength, Tensor):
        if not abs(strength) < math.inf:  # torch.compile with dynamic shapes can't trace math.isfinite
            raise ValueError(f"strength must be a finite number, got {strength}")
        return None
    if (strength.numel(), strength.dtype, strength.device) != (1, torch.float32, picture.device):
        raise ValueError(
            f"strength must be a number or a tensor of 1 torch.float32 number on picture's device {picture.device},"
            f" got a tensor of {strength.numel()} {strength.dtype} numbers on {strength.device}"
        )
    if strength.requires_grad:
        raise ValueError("strength must not require a gradient: enhance_picture has none")
    return strength.reshape(1)


def _checked_iterations(maps: Tensor, iterations: int | None, logits: bool) -> int:
    """T, of ``maps`` (1, C, h, w)."""
    if maps.shape[1] != GUIDED:
        return check_iterations("maps", maps, iterations)
    if logits:
        raise ValueError("maps must have 3 channels or 3 for each of T iterations where they are logits, got 2")
    if iterations is not None:
        check_whole("iterations", iterations)
    if iterations is None or not 1 <= iterations <= MAX_ITERATIONS:
        raise ValueError(f"iterations must be 1 to {MAX_ITERATIONS} where maps have 2 channels, got {iterations}")
    return iterations


def _check_small_maps(maps: Tensor, picture: Tensor, scale: int) -> None:
    """Checks that maps (1, C, h, w) fit ``picture`` (H, W, 3) at ``scale``."""
    check_tensor("maps", maps, channels=None)
    if maps.dtype == torch.float64:
        raise TypeError("maps must be float32, bfloat16 or float16, got torch.float64")
    if maps.device != picture.device:
        raise ValueError(f"maps must be on picture's device {picture.device}, got {maps.device}")
    height, width = (-(-side // scale) for side in picture.shape[:2])
    if (maps.shape[0], *maps.shape[2:]) != (1, height, width):
        raise ValueError(f"maps must be (1, 3T, 3 or 2, {height}, {width}) for this picture and scale, got {tuple(maps.shape)}")
    if maps.requires_grad or picture.requires_grad:
        raise ValueError("picture and maps must not require a gradient: enhance_picture has none, apply_curve has")


def _check_output(out: Tensor, picture: Tensor) -> None:
    check_picture("out", out)
    if (out.shape, out.dtype, out.device) != (picture.shape, picture.dtype, picture.device):
        raise ValueError(
            f"out must be {tuple(picture.shape)} of {picture.dtype} on {picture.device} as picture is,"
            f" got {tuple(out.shape)} of {out.dtype} on {out.device}"
        )
    if out.stride()[1:] != (3, 1):
        raise ValueError(f"out must have each row's pixels contiguous, strides (any, 3, 1), got {out.stride()}")
    if out.requires_grad:
        raise ValueError("out must not require a gradient: enhance_picture has none")


def _check_memory(out: Tensor, picture: Tensor, maps: Tensor) -> None:
    """Checks that the rows of ``out`` share no memory with each other, with ``maps`` or, if it is another, ``picture``."""
    if out.shape[0] > 1 and out.stride(0) < 3 * out.shape[1]:
        raise ValueError(f"out must have rows that do not overlap, got strides {out.stride()} for {tuple(out.shape)}")
    if torch.compiler.is_compiling():  # torch knows there what shares memory, and copies
        return
    for name, other in (("picture", picture), ("maps", maps)):
        alias = torch._C._is_alias_of(out, other)  # type: ignore[attr-defined]
        if alias and out is not other and _overlap(out, other):
            raise ValueError(f"out must be picture itself or share no memory with picture and maps, got memory of {name}")


def _overlap(out: Tensor, other: Tensor) -> bool:
    """Whether ``out`` (H, W, 3) and ``other``, of the same storage, share bytes; not if they are the same."""
    (first, end), (other_first, other_end) = map(_bytes, (out, other))
    if end <= other_first or other_end <= first:
        return False
    if (out.dtype, out.stride()) != (other.dtype, other.stride()):
        return True
    if len(out) == 1:
        return first != other_first
    # Rows with the same distance: the same memory, or parts of a wider picture side by side, or overlapping.
    row, wide = out.stride(0), 3 * out.shape[1]
    return first != other_first and not wide <= (out.storage_offset() - other.storage_offset()) % row <= row - wide


def _bytes(tensor: Tensor) -> tuple[int, int]:
    """First byte of ``tensor`` in its storage, and the one behind its last."""
    first, size = int(tensor.storage_offset()), tensor.element_size()
    last = first + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first * size, (last + 1) * size


# The float64 reference.


def reference(
    picture: Tensor,
    maps: Tensor,
    iterations: int,
    scale: int,
    align_corners: bool,
    strength: float,
    logits: bool,
    factor: Tensor | None = None,
) -> Tensor:
    """The picture (H, W, 3) enhanced by ``maps`` (1, 3T, 3 or 2, ceil(H / scale), ceil(W / scale)): its shape and type.

    ``strength`` is multiplied with ``factor``, a tensor of one number.
    """
    # uint8 fused: 3 bytes read and 3 written, and 96 / scale^2 of the maps. Eager also writes and reads full maps, 192 bytes,
    # and the curve's 288.
    image = fractions(picture)
    guided = maps.shape[1] == GUIDED
    found: float | Tensor = strength if factor is None else strength * factor.reshape(()).to(maps.dtype)
    if not guided:
        maps = ((torch.tanh(maps) if logits else maps) * found).clamp(-1, 1)
    maps = interpolated(maps, (image.shape[2], image.shape[3]), scale, align_corners)
    image, maps = operator.in_common_dtype(image, maps)
    if guided:
        maps = (found * guided_map(image, maps)).clamp(-1, 1).expand(-1, 3, -1, -1)
    return to_dtype(curve_reference(image, maps, iterations)[0].permute(1, 2, 0), picture.dtype)


def guided_map(image: Tensor, coefficients: Tensor) -> Tensor:
    """``a Y + b`` within [-1, 0], (B, 1, H, W), of images (B, 3, H, W) with luma Y and coefficients (B, 2, H, W)."""
    return (coefficients[:, :1] * luma(image) + coefficients[:, 1:]).clamp(-1, 0)


def interpolated(maps: Tensor, size: tuple[int, int], scale: int, align_corners: bool) -> Tensor:
    """Maps (1, C, ceil(H / scale), ceil(W / scale)) in ``size`` (H, W)."""
    if scale > 1 and align_corners:
        return functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)
    if scale > 1:
        maps = functional.interpolate(maps, scale_factor=float(scale), mode="bilinear", align_corners=False)
    return maps[..., : size[0], : size[1]]


# The operator writes into an argument, so that callers can reuse memory; it has no gradient.


def _arguments(picture: Tensor, *others: object) -> tuple[object, ...]:
    return with_contiguous_rows(picture), *others


operator.define_in_place(
    "enhance_picture(Tensor picture, Tensor maps, int iterations, int scale, bool align_corners, float strength, bool logits,"
    " Tensor? factor, Tensor(a!) enhanced) -> ()",
    reference,
    _arguments,
    kernels=("cpp", "triton"),
)
