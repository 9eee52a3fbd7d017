"""Measures of one picture: similarity to targets, light, colour, noise, and the order of lightness."""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from zdce.metrics.lightness_order import changed_orders
from zdce.metrics.pictures import Rgb, luma
from zdce.metrics.registry import AUTOCONTRAST, INPUT, REFERENCE, TARGETS
from zdce.metrics.similarity import ciede2000, psnr, ssim

# Largest number of grid points along the longer side for the order of lightness.
_GRID = 100


@dataclass(frozen=True)
class Measured:
    """Measures of one method on one picture.

    Attributes:
        method: name of a variant or a baseline.
        seed, epoch: seed and epoch of the training run; 0 for baselines.
        picture: name of the picture.
        psnr_*, ssim_*: PSNR in dB and SSIM against a target; NaN without a reference, infinite PSNR for equal pictures.
        brightness: mean luma, 0 to 1.
        contrast: standard deviation of luma, on the same scale.
        saturation: mean of HSV's saturation, 0 to 1.
        yellowness: mean of CIELAB's b*: positive is yellow, negative blue.
        noise: ``noise_level``, in levels of 255.
        sharpness: mean length of luma's gradient, in levels of 255 a pixel.
        order_error: ``changed_orders_on_grid`` against the input.
        ciede2000_reference: mean colour difference to the reference; NaN without a reference, and in results of older versions.
    """

    method: str
    seed: int
    epoch: int
    picture: str
    psnr_autocontrast: float
    ssim_autocontrast: float
    psnr_input: float
    ssim_input: float
    psnr_reference: float
    ssim_reference: float
    brightness: float
    contrast: float
    saturation: float
    yellowness: float
    noise: float
    sharpness: float
    order_error: float
    ciede2000_reference: float = math.nan


MEASURES = tuple(field.name for field in fields(Measured))[4:]


class Source(NamedTuple):
    """Weights or baseline that a picture was made by."""

    method: str
    seed: int = 0
    epoch: int = 0


def measure(source: Source, picture: str, result: Rgb, targets: dict[str, Rgb]) -> Measured:
    """All measures of ``result`` (H, W, 3); ``targets`` of its shape are those of ``TARGETS``, ``REFERENCE`` optionally."""
    light = luma(result)
    reference = targets.get(REFERENCE)
    likeness = {against: _likeness(result, targets.get(against)) for against in TARGETS}
    return Measured(
        *source,
        picture,
        *likeness[AUTOCONTRAST],
        *likeness[INPUT],
        *likeness[REFERENCE],
        float(light.mean()),
        float(light.std()),
        _saturation(result),
        float(rgb2lab(result)[..., 2].mean()),
        noise_level(light),
        _sharpness(light),
        changed_orders_on_grid(result, targets[INPUT]),
        math.nan if reference is None else ciede2000(result, reference),
    )


def _likeness(result: Rgb, target: Rgb | None) -> tuple[float, float]:
    """PSNR and SSIM."""
    return (math.nan, math.nan) if target is None else (psnr(result, target), ssim(result, target))


def _saturation(image: Rgb) -> float:
    high, low = image.max(axis=2).astype(np.float64), image.min(axis=2)
    return float(np.mean((high - low) / np.maximum(high, 1)))


def _sharpness(luma: NDArray[np.float64]) -> float:
    down, right = luma[1:, :-1] - luma[:-1, :-1], luma[:-1, 1:] - luma[:-1, :-1]
    return float(np.hypot(down, right).mean() * 255)


def noise_level(luma: NDArray[np.float64]) -> float:
    """Standard deviation of white noise in ``luma`` (H, W) in [0, 1], in levels of 255 (Immerkaer, CVIU 1996).

    The second difference along both axes is 0 on slopes and straight edges. It multiplies the standard deviation of white noise
    by 6, the root of the sum of its squared coefficients (1, -2, 1 along each axis: 6 * 6 = 36). Normal noise x of standard
    deviation s has the mean ``|x| = s sqrt(2 / pi)``. Fine texture counts as noise.
    """
    if min(luma.shape) < 3:
        return 0.0
    answer = np.diff(np.diff(luma, 2, axis=0), 2, axis=1)
    return float(np.abs(answer).mean() * math.sqrt(math.pi / 2) / 6 * 255)


def changed_orders_on_grid(result: Rgb, image: Rgb) -> float:
    """Mean number of pixels whose order of lightness with a pixel has changed (Wang et al., TIP 2013, eq. 10 to 12).

    With the lightness L = max(R, G, B) of ``image`` and L' of ``result``, both (H, W, 3), it is
    ``1/m sum over pixels x, y of [L(x) >= L(y)] xor [L'(x) >= L'(y)]`` on a grid of m pixels: every k-th pixel along each axis,
    with the smallest k for which the longer side has at most 100. 0 if no order has changed, at most m.
    """
    step = max(1, -(-max(image.shape[:2]) // _GRID))
    before, after = (picture[::step, ::step].max(axis=2) for picture in (image, result))
    return changed_orders(before, after)
