"""Measures against a target."""

import math

import numpy as np
import pytest
from skimage import color, metrics

from cases import two_pictures
from zdce.metrics import similarity


def test_psnr_and_ssim_are_scikit_images():
    a, b = two_pictures()
    assert similarity.psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(b, a, data_range=255))
    expected = metrics.structural_similarity(a, b, channel_axis=2, data_range=255)
    # Sums are exact; two quotients, each of rounded numbers, are within 6 roundings of 2^-24.
    assert similarity.ssim(a, b) == pytest.approx(expected, abs=1e-6)
    assert similarity.psnr(a, a) == math.inf
    assert similarity.ssim(a, a) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (6, 40)])
def test_tiny_pictures_do_not_fail(size):
    a, b = two_pictures(size=size)
    assert math.isfinite(similarity.psnr(a, b))
    assert math.isnan(similarity.ssim(a, b)) == (min(size) < 3)


def test_ciede2000_is_the_mean_over_pixels():
    a, b = two_pictures()
    expected = np.mean([color.deltaE_ciede2000(color.rgb2lab(p), color.rgb2lab(q)) for p, q in zip(a, b, strict=True)])
    assert similarity.ciede2000(a, b) == pytest.approx(expected, rel=1e-5)  # in float32
    assert similarity.ciede2000(a, a) == 0
    black, white = (np.full((4, 5, 3), level, np.uint8) for level in (0, 255))
    assert similarity.ciede2000(white, black) == pytest.approx(100, abs=1e-3)


@pytest.mark.parametrize("size", [(3, 3), (5, 40), (7, 7), (8, 9), (41, 33)])
def test_ssim_is_scikit_images_at_any_size_and_extreme(size):
    side = min(7, (min(size) - 1) // 2 * 2 + 1)
    a, b = two_pictures(1, size)
    dark = np.where(b < 128, 0, 255).astype(np.uint8)
    for one, other in ((a, b), (a // 60, a // 50), (dark, 255 - dark)):
        expected = metrics.structural_similarity(one, other, win_size=side, channel_axis=2, data_range=255)
        assert similarity.ssim(one, other) == pytest.approx(expected, abs=1e-6)


def test_an_oracle_of_the_mean_scales_before_rounding():
    target = two_pictures()[1]
    dark = target // 4
    scaled = np.rint(np.minimum(dark * (target.mean() / dark.mean()), 255))
    assert np.array_equal(similarity.at_targets_mean(dark, target), scaled)
    assert similarity.psnr_gt_mean(dark, target) == similarity.psnr(scaled.astype(np.uint8), target)
    assert similarity.ssim_gt_mean(dark, target) == similarity.ssim(scaled.astype(np.uint8), target)
    # What differs by a factor only is the target itself.
    assert similarity.psnr_gt_mean(np.full((9, 9, 3), 40, np.uint8), np.full((9, 9, 3), 200, np.uint8)) == math.inf
    black = np.zeros((9, 9, 3), np.uint8)
    assert similarity.psnr_gt_mean(black, target[:9, :9]) == similarity.psnr(black, target[:9, :9])
