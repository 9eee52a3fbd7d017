"""Similarity to a target: PSNR and SSIM, also at the target's brightness, and the difference of colours."""

import math

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from zdce.metrics.pictures import Rgb

# Side of SSIM's window, and the constants K1 and K2 of Wang et al.
_WINDOW, _K1, _K2 = 7, 0.01, 0.03


def psnr(result: Rgb, target: Rgb) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit pictures of equal shape; infinite for equal pictures.

    ``10 log10(255^2 / mean((result - target)^2))`` over all pixels and channels.

    >>> round(psnr(np.full((4, 4, 3), 100, np.uint8), np.full((4, 4, 3), 110, np.uint8)), 2)
    28.13
    """
    error = float(np.mean(np.square(result.astype(np.float64) - target)))
    return 10 * math.log10(255.0**2 / error) if error else math.inf


def ssim(result: Rgb, target: Rgb) -> float:
    """Structural similarity (Wang et al., TIP 2004) of 8-bit pictures of equal shape, at most 1; higher is better.

    As scikit-image's ``structural_similarity(channel_axis=2, data_range=255)``: means, sample variances and the covariance of
    windows of 7x7 pixels (smaller for smaller pictures) that lie inside the picture, the mean over windows and channels of
    ``(2 m n + C1) (2 cov + C2) / ((m^2 + n^2 + C1) (v + w + C2))`` with C1 = (0.01 255)^2 and C2 = (0.03 255)^2. The sums are
    integers, hence exact, and take less time than scikit-image's.

    Returns:
        The similarity; NaN for pictures smaller than 3x3, unless they are equal.

    >>> ssim(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8))
    1.0
    """
    if np.array_equal(result, target):
        return 1.0
    side = min(_WINDOW, (min(result.shape[:2]) - 1) // 2 * 2 + 1)
    if side < 3:
        return math.nan
    # Colour by colour: the planes of one fit the second-level cache.
    means = [_mean_similarity(result[..., colour], target[..., colour], side) for colour in range(result.shape[2])]
    return float(np.mean(means))


def _mean_similarity(result: NDArray[np.uint8], target: NDArray[np.uint8], side: int) -> np.float64:
    """Mean over the windows of one colour, shape (H, W)."""
    x, y, n = result.astype(np.int32), target.astype(np.int32), side * side
    sum_x, sum_y = _window_sums(x, side), _window_sums(y, side)
    # n^2 times products of means, variances and covariance: at most 49 * 49 * 255^2, which fits 32 bits.
    product = sum_x * sum_y
    squares = sum_x * sum_x + sum_y * sum_y
    covariance = n * _window_sums(x * y, side) - product
    variances = n * _window_sums(x * x + y * y, side) - squares
    c1, c2 = (_K1 * 255) ** 2 * n * n, (_K2 * 255) ** 2 * n * (n - 1)
    similarity = _quotient(product, squares, c1)
    similarity *= _quotient(covariance, variances, c2)
    return np.mean(similarity, dtype=np.float64)


def _quotient(product: NDArray[np.int32], squares: NDArray[np.int32], constant: float) -> NDArray[np.float32]:
    """``(2 product + constant) / (squares + constant)``; float32 differs from float64 by 1e-7 of it."""
    above, below = product.astype(np.float32), squares.astype(np.float32)
    above *= 2
    above += np.float32(constant)
    below += np.float32(constant)
    above /= below
    return above


def _window_sums(values: NDArray[np.int32], side: int) -> NDArray[np.int32]:
    """Sums of ``values`` (H, W) over all windows of ``side`` x ``side`` pixels that lie inside; ``side`` is odd."""
    return _sums_along_rows(_sums_along_rows(values, side).T, side).T


def _sums_along_rows(values: NDArray[np.int32], side: int) -> NDArray[np.int32]:
    """Sums over ``side`` neighbours along the first axis: of runs of 1, 2, 4, ... values, of which each is the sum of two."""
    rows = len(values) - side + 1
    runs, width, sums, done = values, 1, values[:rows], 1
    while (width := 2 * width) <= side:
        runs = runs[: -width // 2] + runs[width // 2 :]
        if side & width:
            sums = sums + runs[done : done + rows]
            done += width
    return sums


def at_targets_mean(result: Rgb, target: Rgb) -> Rgb:
    """``result`` scaled by mean(target) / mean(result), over all pixels and channels, clipped at 255 and rounded.

    An oracle: no method knows a reference's brightness. The field calls figures after it "GT-mean". Other code takes means of
    grey (Zhang et al., KinD, 2019); means of all channels differ from those by the weights of the colours.
    A black result stays black.
    """
    mean = float(np.mean(result))
    if not mean:
        return result
    return np.rint(np.minimum(result * (float(np.mean(target)) / mean), 255.0)).astype(np.uint8)


def psnr_gt_mean(result: Rgb, target: Rgb) -> float:
    """PSNR after ``at_targets_mean``, by an oracle; in dB.

    >>> psnr_gt_mean(np.full((4, 4, 3), 50, np.uint8), np.full((4, 4, 3), 100, np.uint8))
    inf
    """
    return psnr(at_targets_mean(result, target), target)


def ssim_gt_mean(result: Rgb, target: Rgb) -> float:
    """SSIM after ``at_targets_mean``, by an oracle.

    >>> ssim_gt_mean(np.full((4, 4, 3), 50, np.uint8), np.full((4, 4, 3), 100, np.uint8))
    1.0
    """
    return ssim(at_targets_mean(result, target), target)


def ciede2000(result: Rgb, reference: Rgb) -> float:
    """Colour difference CIEDE2000 (Luo, Cui and Rigg, 2001), averaged over pixels; about 1 is just visible, 0 equal.

    >>> round(ciede2000(np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)), 2)
    100.0
    """
    # float32 takes half the time; means differ in the seventh digit.
    one, other = (rgb2lab(image.astype(np.float32) / 255) for image in (result, reference))
    return float(np.mean(deltaE_ciede2000(other, one), dtype=np.float64))
