"""Simple methods beside a network: each a few lines, each from 8-bit pictures to 8-bit pictures, without training."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.optimize import minimize_scalar
from skimage.exposure import equalize_adapthist
from skimage.filters import gaussian

from zdce.metrics.pictures import Plane, Rgb


def autocontrast(image: Rgb) -> Rgb:
    """Each channel stretched to the full range by Pillow; the report uses it as reference."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))


def gamma(image: Rgb, exponent: float = 0.4) -> Rgb:
    """Every value raised to a power."""
    return _rounded((image / 255.0) ** exponent)


def clahe(image: Rgb) -> Rgb:
    """Contrast-limited adaptive histogram equalisation of HSV's value, scikit-image's defaults."""
    value = image.max(axis=2)
    if value.min() == value.max():  # scikit-image would make it white
        return image.copy()
    return _rounded(equalize_adapthist(image))


def retinex(image: Rgb) -> Rgb:
    """Single-scale Retinex: divided by the light to the power 0.7, then blurred (sigma 1.2) against noise.

    The light is the blurred channel maximum (sigma 5); the power below 1 keeps some of the differences in light.
    """
    values = image / 255.0
    light = gaussian(values.max(axis=2), 5.0)
    # The bound, a quarter of a level of 255, prevents 0 / 0 where there is no light.
    brightened = values / np.maximum(light, 1e-3)[..., None] ** 0.7
    return _rounded(gaussian(brightened, 1.2, channel_axis=2).clip(0, 1))


def lime(image: Rgb) -> Rgb:
    """LIME (Guo, Li and Ling, TIP 2017): divided by the light to the power 0.8.

    The light is the channel maximum without its texture: ``smooth_light`` with the paper's alpha 0.15 and sigma 2. The paper's
    last step, BM3D against noise, is left out.
    """
    values = image / 255.0
    light = smooth_light(values.max(axis=2), 0.15, 2.0)
    return _rounded(np.minimum(values / np.maximum(light, 1e-3)[..., None] ** 0.8, 1))


def exposure_fusion(image: Rgb) -> Rgb:
    """Two exposures of one picture fused, as BIMEF does (Ying, Li and Gao, 2017): the picture, and the same with more light.

    The camera's response makes the other exposure, ``exp(b (1 - k^a)) value^(k^a)`` with the paper's a = -0.3293 and
    b = 1.1258. Its exposure ratio k, at most 7, gives the pixels in the dark the most entropy. The picture itself counts where
    it is light: by the root of its channel maximum without texture (``smooth_light`` with alpha 0.5 and sigma 5).
    """
    values = image / 255.0
    light = smooth_light(values.max(axis=2), 0.5, 5.0)
    weight = np.sqrt(light)[..., None]
    return _rounded(np.clip(values * weight + _exposed(values, _exposure_ratio(image, light)) * (1 - weight), 0, 1))


def _exposed(values: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """Values in [0, 1] as a camera gives them for ``ratio`` times the light."""
    power = ratio**-0.3293
    exposed: NDArray[np.float64] = np.exp(1.1258 * (1 - power)) * values**power
    return exposed


def _exposure_ratio(image: Rgb, light: Plane) -> float:
    """The ratio from 1 to 7 with the most entropy of what is below half of the light; 1 where nothing is."""
    size = (50, 50)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) / 255.0
    dark = np.asarray(Image.fromarray(light.astype(np.float32)).resize(size, Image.Resampling.BOX)) < 0.5
    grey = np.cbrt(small.prod(axis=2))[dark]
    if not grey.size:
        return 1.0

    def missing_entropy(ratio: float) -> float:
        counts = np.histogram(_exposed(grey, ratio).clip(0, 1), 256, (0, 1))[0]
        share = counts[counts > 0] / grey.size
        return float(np.sum(share * np.log2(share)))

    return float(minimize_scalar(missing_entropy, bounds=(1.0, 7.0), method="bounded").x)


def smooth_light(light: Plane, alpha: float, sigma: float) -> Plane:
    """``light`` (H, W) in [0, 1] without its texture but with its edges as LIME refines it (Guo, Li and Ling, TIP 2017).

    The plane t with the least ``|t - light|^2 + alpha sum of w d(t)^2 / (|d(light)| + e)`` over differences d to the right and
    down, where ``w = 1 / (|blur of d(light), sigma| + e)``: steps that blur away are texture. e is 0.02. This is the
    paper's sped-up problem with its weighting strategy III, solved by at most 100 steps of conjugate gradients, until the
    residual is a thousandth of ``light``.
    """
    right, down = (alpha * _texture(light, axis, sigma) for axis in (1, 0))
    centre = 1 + right + down
    centre[:, 1:] += right[:, :-1]
    centre[1:] += down[:-1]

    def system(plane: Plane) -> Plane:
        across, along = right[:, :-1] * np.diff(plane, axis=1), down[:-1] * np.diff(plane, axis=0)
        product = plane.copy()
        product[:, :-1] -= across
        product[:, 1:] += across
        product[:-1] -= along
        product[1:] += along
        return product

    return np.clip(_solved(system, light, centre), 0, 1)


def _solved(system: Callable[[Plane], Plane], right_side: Plane, diagonal: Plane) -> Plane:
    """Conjugate gradients with Jacobi's preconditioner, until the residual is a thousandth of the right side.

    SciPy's would do, but its dot products start BLAS's threads in each of our own, which take ten times as long together.
    """
    solution = right_side.copy()
    residual = right_side - system(solution)
    enough = 1e-6 * np.sum(right_side * right_side)
    direction, size = np.zeros_like(residual), 1.0
    for _ in range(100):
        if np.sum(residual * residual) <= enough:
            break
        preconditioned = residual / diagonal
        before, size = size, float(np.sum(residual * preconditioned))
        direction = preconditioned + size / before * direction
        product = system(direction)
        step = size / float(np.sum(direction * product))
        solution += step * direction
        residual -= step * product
    return solution


def _texture(light: Plane, axis: int, sigma: float) -> Plane:
    """Weights of the differences along ``axis``: large where there is texture; 0 at the last pixel, which has no next."""
    step = np.diff(light, axis=axis, append=light.take([-1], axis=axis))
    weights = 1 / ((abs(gaussian(step, sigma)) + 0.02) * (abs(step) + 0.02))
    weights[(slice(None), -1) if axis else -1] = 0
    return weights


def _rounded(values: NDArray[np.float64]) -> Rgb:
    return np.rint(values * 255.0).astype(np.uint8)


BASELINES: dict[str, Callable[[Rgb], Rgb]] = {
    "input": lambda image: image,
    "autocontrast": autocontrast,
    "gamma 0.4": gamma,
    "CLAHE": clahe,
    "retinex": retinex,
    "LIME": lime,
    "fusion": exposure_fusion,
}

# What `zdce eval` and the study show unless others are asked for: LIME and fusion take most of a second for a small photograph.
USUAL = ("input", "autocontrast", "gamma 0.4", "CLAHE", "retinex")
