"""What is measured of one picture: likeness to targets, light, colour, noise, and whether the order of lightness is kept."""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

from zdce.metrics.evaluation import Rgb, ciede2000, luma, psnr, ssim

# What pictures are compared with.
TARGETS = ("autocontrast", "input", "reference")

# Lightness order is compared on a grid of at most so many points along the longer side.
_GRID = 100


@dataclass(frozen=True)
class Measured:
    """One method on one picture.

    Attributes:
        method: a variant or a baseline.
        seed, epoch: of the training run; 0 where nothing was trained.
        picture: its name.
        psnr_*, ssim_*: against a target, in dB and 0 to 1; NaN where the picture has no reference, an infinite PSNR where they
            are equal.
        brightness: mean luma, 0 to 1.
        contrast: standard deviation of luma, on the same scale.
        saturation: mean of HSV's saturation, 0 to 1.
        yellowness: mean of CIELAB's b*: positive is yellow, negative blue.
        noise: ``noise_level``, in levels of 255.
        sharpness: mean length of luma's gradient, in levels of 255 a pixel.
        order_error: ``lightness_order_error`` against the input.
        ciede2000_reference: the mean colour difference to the reference; NaN as ``psnr_reference``, and in results that were
            written without it.
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
    """Which weights made a picture, or which baseline."""

    method: str
    seed: int = 0
    epoch: int = 0


def measure(source: Source, picture: str, result: Rgb, targets: dict[str, Rgb]) -> Measured:
    """All measures of ``result`` (H, W, 3); ``targets``, of its shape, are "input", "autocontrast" and maybe "reference"."""
    light = luma(result)
    reference = targets.get("reference")
    likeness = {against: _likeness(result, targets.get(against)) for against in TARGETS}
    return Measured(
        *source,
        picture,
        *likeness["autocontrast"],
        *likeness["input"],
        *likeness["reference"],
        float(light.mean()),
        float(light.std()),
        _saturation(result),
        float(rgb2lab(result)[..., 2].mean()),
        noise_level(light),
        _sharpness(light),
        lightness_order_error(targets["input"], result),
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
    """The deviation of white noise in ``luma`` (H, W) in [0, 1], in levels of 255 (Immerkaer, CVIU 1996).

    The second difference along both axes, which straight edges and slopes do not answer to; where |x| has the mean m, normal
    noise has the deviation m sqrt(pi / 2), and the mask multiplies it by 6. Fine texture counts as noise.
    """
    if min(luma.shape) < 3:
        return 0.0
    answer = np.diff(np.diff(luma, 2, axis=0), 2, axis=1)
    return float(np.abs(answer).mean() * math.sqrt(math.pi / 2) / 6 * 255)


def lightness_order_error(image: Rgb, enhanced: Rgb) -> float:
    """How many pixels, on average, changed their order of lightness with a pixel (Wang et al., TIP 2013, eq. 10 to 12).

    With the lightness L = max(R, G, B) of ``image`` and L' of ``enhanced``, both (H, W, 3), it is
    ``1/m sum over pixels x, y of [L(x) >= L(y)] xor [L'(x) >= L'(y)]`` on a grid of m pixels, every k-th of each axis, k the
    least for which the longer side has at most 100. 0 where no order changed, at most m.
    """
    step = max(1, -(-max(image.shape[:2]) // _GRID))
    before, after = (picture[::step, ::step].max(axis=2).ravel() for picture in (image, enhanced))
    # Counted over values, not pairs: a pixel of values (a, b) disagrees with those whose L <= a or L' <= b, but not both.
    joint = np.zeros((256, 256), np.int64)
    np.add.at(joint, (before, after), 1)
    both = joint.cumsum(axis=0).cumsum(axis=1)
    changed = both[:, -1:] + both[-1:, :] - 2 * both
    return float((joint * changed).sum() / before.size)
