"""``denoise_picture``: picture, enhanced (H, W, 3) -> (H, W, 3)."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zdce.interleaved import fractions, to_dtype, with_contiguous_rows
from zdce.noise_constants import BELOW_WHITE, BLACK_TERM, COLOR, COLOR_ERROR, FLAT_TERM, FULL_BLUR, OWN_WEIGHT
from zdce.ops import operator
from zdce.ops.arguments import check_picture
from zdce.ops.luma import luma

# Pixels around a pixel that its result depends on, and radius of the averages of luma.
DENOISE_REACH, _RADIUS = 4, 2
# Standard deviations in pixels of the Gaussians for the guide, the chroma and the neighbours' weights.
_GUIDE, _CHROMA, _NEAR = 0.8, 2.0, 1.2


def denoise_picture(picture: Tensor, enhanced: Tensor, noise: float | Tensor = 1 / 255, grain: float | None = None) -> Tensor:
    """Removes the noise that the curve has amplified from an enhanced picture, and keeps edges.

    A curve with the slope g makes noise of standard deviation g n from noise of standard deviation n; g follows from the local
    brightness before and after. Luma is averaged over those of 5 x 5 pixels whose smoothed luma differs by less than twice the
    added noise; what is averaged has less of the ``grain``. Chroma is blurred by a Gaussian of 2 pixels, fully where (g - 1) n
    is at least two levels of 255, and made paler where the curve has amplified its error, too. Nothing changes where g is at
    most 1 or one of 9 x 9 pixels is NaN, and no colour becomes white.

    Args:
        picture: before the curve, interleaved, shape (H, W, 3), uint8, uint16, or float32 in [0, 1]; any strides, and no copy
            where each row's pixels are contiguous.
        enhanced: after the curve, (H, W, 3) of the same type.
        noise: standard deviation of the noise in ``picture``, as a fraction of white; by default one level of 255. 0: nothing
            changes. A tensor of two float64 numbers on the picture's device, noise and grain, is read there, without waiting
            for it, and therefore checked only on the CPU.
        grain: standard deviation of the finest details in flat parts of ``picture``, as a fraction of white; at most ``noise``
            counts. None: 0, or the second number of a tensor ``noise``, beside which no grain can be given.

    Returns:
        Shape (H, W, 3) in the type of ``picture``; integers are rounded to nearest. No gradient.

    Raises:
        TypeError, ValueError: arguments are not as above, or one requires a gradient.

    >>> dark = torch.randint(5, 15, (40, 60, 3), dtype=torch.uint8)
    >>> bool(zdce.ops.denoise_picture(dark, 10 * dark).float().std() < 0.7 * (10 * dark).float().std())
    True
    """
    check_picture("picture", picture)
    check_picture("enhanced", enhanced)
    if (enhanced.shape, enhanced.dtype, enhanced.device) != (picture.shape, picture.dtype, picture.device):
        raise ValueError(
            f"enhanced must be {tuple(picture.shape)} of {picture.dtype} on {picture.device} as picture is,"
            f" got {tuple(enhanced.shape)} of {enhanced.dtype} on {enhanced.device}"
        )
    if picture.requires_grad or enhanced.requires_grad:
        raise ValueError("picture and enhanced must not require a gradient: denoise_picture has none")
    return torch.ops.zdce.denoise_picture(picture, enhanced, _levels(picture, noise, grain))


def _levels(picture: Tensor, noise: float | Tensor, grain: float | None) -> Tensor:
    """Noise and grain as the operator takes them: float64 (2,) on the device of ``picture``."""
    if isinstance(noise, Tensor):
        if (noise.shape, noise.dtype, noise.device) != ((2,), torch.float64, picture.device):
            raise ValueError(
                f"noise must be a number or a tensor (2,) of torch.float64 on picture's device {picture.device},"
                f" got {tuple(noise.shape)} of {noise.dtype} on {noise.device}"
            )
        if grain is not None:
            raise ValueError(f"grain must not be given where noise is a tensor, which has the grain, got {grain}")
        if noise.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_levels(*noise.tolist())
        return noise
    grain = 0.0 if grain is None else grain
    _check_levels(noise, grain)
    levels = torch.full((2,), noise, dtype=torch.float64, device=picture.device)
    levels[1:].fill_(grain)  # two kernels on a GPU, which a copy from the host would wait for
    return levels


def _check_levels(noise: float, grain: float) -> None:
    for name, deviation in (("noise", noise), ("grain", grain)):
        if not 0 <= deviation < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {deviation}")


# The float64 reference.


def _blurred(planes: Tensor, deviation: float, radius: int) -> Tensor:
    """Planes (B, C, H, W) blurred by a Gaussian that is cut at ``radius``, (B, C, H - 2 radius, W - 2 radius)."""
    kernel = torch.exp(-(torch.arange(-radius, radius + 1, dtype=planes.dtype, device=planes.device) ** 2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).expand(planes.shape[1], 1, 1, -1)
    across = functional.conv2d(planes, kernel, groups=planes.shape[1])
    return functional.conv2d(across, kernel.transpose(2, 3), groups=planes.shape[1])


def denoise(image: Tensor, enhanced: Tensor, noise: float, grain: float = 0.0) -> Tensor:
    """``enhanced`` (B, 3, H, W) without the noise that a curve has amplified; ``noise`` and ``grain`` are those of ``image``
    (B, 3, H, W).

    All values are in [0, 1]. Derivation:

    * A curve of slope g adds the variance (g^2 - 1) n^2 to noise of standard deviation n.
    * With the local means x and y of luma before and after, g = y (1 - y) / (x (1 - x)): the slope of the curve
      y = a x / (1 + (a - 1) x) through them.
    * Luma is averaged with neighbours whose smoothed luma differs by less than twice the added standard deviation; the weights
      are Tukey's biweight, as in the bilateral filter of Durand and Dorsey (SIGGRAPH 2002), times a Gaussian of the distance.
    * What is averaged is the curve of a picture whose luma went through Lee's filter (PAMI 1980): with the mean x and variance
      v of 5 x 5 pixels before the curve, the deviation from x loses the share grain^2 / (v + grain^2), so what is stronger than
      the grain stays. To first order the curve takes g times what is lost from luma. It has the weight g - 1, at most 1.
    * The blurred chroma has the weight (g - 1) n / (2 / 255), at most 1. It is multiplied by c^2 / (c^2 + (g^2 - 1) e^2), the
      Wiener filter for the error e that no blur takes away: n, at most 1.4 / 255. c is the colour of lit photographs.
    * Where g is at most 1, nothing changes.
    """
    # uint8 fused: 6 bytes read and 3 written a pixel. Eager passes over the luma some 150 times.
    image, bright = (functional.pad(planes, [DENOISE_REACH] * 4, mode="replicate") for planes in (image, enhanced))
    before, lumas = luma(image), luma(bright)
    after, mean = _mean(lumas), _mean(before)
    wide_slope = after * (1 - after) / (mean * (1 - mean) + BLACK_TERM)
    averaged = _within(lumas, _RADIUS)
    grain = min(grain, noise)
    if grain:  # exported files have none
        variance = (_mean(before**2) - mean**2).clamp(min=0)
        lost = grain**2 / (variance + grain**2 + FLAT_TERM) * (_within(before, _RADIUS) - mean)
        averaged = averaged - torch.where(wide_slope > 1, (wide_slope - 1).clamp(max=1) * wide_slope * lost, 0)
    slope = _within(wide_slope, _RADIUS)
    added = (slope**2 - 1).clamp(min=0)
    change = _smoothed(lumas, averaged, (2 * 255 * noise) ** 2 * added)
    chroma = bright - lumas
    pale = _blurred(chroma, _CHROMA, DENOISE_REACH) / (1 + (min(noise, COLOR_ERROR) / COLOR) ** 2 * added)
    change = change + (noise / FULL_BLUR * (slope - 1)).clamp(0, 1) * (pale - _within(chroma, DENOISE_REACH))
    return (enhanced + change).clamp(min=0).minimum(enhanced.clamp(min=BELOW_WHITE))


def _within(planes: Tensor, border: int) -> Tensor:
    """Planes (B, C, H, W) without ``border`` pixels at each side."""
    return planes[..., border:-border, border:-border]


def _mean(planes: Tensor) -> Tensor:
    """Means of the 5 x 5 pixels around each pixel: (B, C, H, W) to (B, C, H - 4, W - 4)."""
    return functional.avg_pool2d(planes, 2 * _RADIUS + 1, 1)


def _smoothed(luma: Tensor, averaged: Tensor, limit: Tensor) -> Tensor:
    """Change of ``luma`` (B, 1, H + 8, W + 8) to a mean of ``averaged`` (B, 1, H + 4, W + 4), (B, 1, H, W); ``limit`` bounds
    squared differences of ``luma`` in levels of 255.
    """
    guide, (height, width) = 255 * _blurred(luma, _GUIDE, _RADIUS), limit.shape[2:]
    own, own_guide = _within(luma, DENOISE_REACH), _within(guide, _RADIUS)
    # Weights are multiplied by limit^2, so that there is no division by a limit of 0.
    total = limit**2 + OWN_WEIGHT
    change = total * (_within(averaged, _RADIUS) - own)
    for y, x in itertools.product(range(-_RADIUS, _RADIUS + 1), repeat=2):
        if (y, x) != (0, 0):
            at = slice(_RADIUS + y, _RADIUS + y + height), slice(_RADIUS + x, _RADIUS + x + width)
            weight = (limit - (guide[..., *at] - own_guide) ** 2).clamp(min=0) ** 2 * math.exp(
                -(y * y + x * x) / (2 * _NEAR**2)
            )
            total = total + weight
            change = change + weight * (averaged[..., *at] - own)
    return change / total


def reference(picture: Tensor, enhanced: Tensor, levels: Tensor) -> Tensor:
    """``enhanced`` (H, W, 3) without the amplified noise of ``picture`` (H, W, 3), in its type; unchanged where a neighbour is
    NaN. ``levels`` (2,): noise and grain.
    """
    given = fractions(enhanced)
    denoised = denoise(fractions(picture), given, *levels.tolist())
    return to_dtype(torch.where(denoised.isnan(), given, denoised)[0].permute(1, 2, 0), picture.dtype)


# The operator; it has no gradient.


def _output(picture: Tensor, enhanced: Tensor, levels: Tensor) -> Tensor:
    return torch.empty_like(picture, memory_format=torch.contiguous_format)


def _arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    picture, enhanced, levels = inputs
    return (with_contiguous_rows(picture), with_contiguous_rows(enhanced), levels.contiguous()), outputs


operator.define(
    "denoise_picture(Tensor picture, Tensor enhanced, Tensor levels) -> Tensor",
    "denoise_picture(Tensor picture, Tensor enhanced, Tensor levels, Tensor(a!) denoised) -> ()",
    reference,
    _output,
    _arguments,
    float64_numbers=True,
)
