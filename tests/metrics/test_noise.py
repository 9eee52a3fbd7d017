"""Noise where a reference is flat."""

import math

import numpy as np
import pytest
from scipy import ndimage

from zdce.metrics import noise as measure


def grey(values):
    return np.repeat(np.rint(np.clip(values, 0, 255)).astype(np.uint8)[..., None], 3, axis=2)


def scene(seed=0, size=(165, 170)):
    """A reference of ever rougher blocks from left to right, and noise that is as strong everywhere."""
    random = np.random.default_rng(seed)
    across = np.arange(size[1])
    return 120 + random.normal(0, 1, size) * across / 8, random.normal(0, 5, size)


def test_flat_noise_is_its_definition():
    plain, noise = scene()
    reference, result = grey(plain), grey(60 + noise)
    result[..., 1] = result[..., 1] // 2  # not only greys
    weights = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
    light, truth = (sum(w * image[..., c] for c, w in enumerate(weights)) for image in (result, reference))
    details = light - ndimage.gaussian_filter(light, 2, mode="nearest")
    blocks = [(slice(y, y + 16), slice(x, x + 16)) for y in range(0, 160, 16) for x in range(0, 160, 16)]
    flattest = sorted(blocks, key=lambda block: truth[block].std())[:10]
    expected = np.median([details[block].std() / light[block].mean() for block in flattest])
    assert measure.flat_noise(result, reference) == pytest.approx(expected)


def test_flat_noise_does_not_depend_on_brightness():
    plain, noise = scene()
    reference = grey(plain)
    # The blur of sigma 2 takes 3% of white noise's deviation with it: 1 - 2 / (8 pi) + 1 / (16 pi) of its variance is left.
    # A block's deviation varies by 4.4%, the median of ten by 1.8%; rounding to integers adds 0.1 to a variance of 6 at least.
    for level in (0.5, 1, 2):
        assert measure.flat_noise(grey((100 + noise) * level), reference) == pytest.approx(0.97 * 5 / 100, rel=0.06)
    slope = np.broadcast_to(np.linspace(100, 120, 170), (165, 170))
    assert measure.flat_noise(grey(slope), reference) < 0.005  # the steps of integers


def test_flat_noise_leaves_out_what_is_black_or_clipped():
    plain, noise = scene()
    plain[:, :64] = 0
    plain[:, 64:128] = 255
    result = 80 + noise
    result[:, 112:] = 80  # so early that the blur brings nothing of the noise into the blocks that are left
    assert measure.flat_noise(grey(result), grey(plain)) == pytest.approx(0, abs=1e-9)
    assert math.isnan(measure.flat_noise(grey(result[:, :128]), grey(plain[:, :128])))
    assert math.isnan(measure.flat_noise(grey(result * 0), grey(plain)))
    assert math.isnan(measure.flat_noise(grey(result[:15]), grey(plain[:15])))
