"""Noise measured in a picture, and its use by the enhancer."""

import numpy as np
import pytest
import torch
from skimage import data as photographs

import zdce
from zdce.models import noise, stored
from zdce.models.engine import Engine, PixelSettings
from zdce.models.noise import Noise
from zdce.models.torch_engine import TorchEngine


def noisy(deviation, size=(240, 320), dtype=np.uint8, seed=0):
    """A ramp of grey with white noise of that deviation, in levels of 255."""
    generator, white = np.random.default_rng(seed), np.iinfo(dtype).max
    clean = np.linspace(40, 90, size[1])[None, :, None] * np.ones((size[0], 1, 3))
    return ((clean + generator.normal(0, deviation, clean.shape)) * white / 255).round().clip(0, white).astype(dtype)


def measured(picture):
    """In levels of 255."""
    return Noise(*(255 * zdce.ops.picture_noise(torch.from_numpy(picture.copy()))).tolist())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("deviation", [1.0, 3.0, 8.0])
def test_white_noise_is_measured(deviation, dtype):
    # The variance of 192 differences is known to sqrt(2 / 192) = 10 %, and the flattest fifth of such blocks lies 1.4 of these
    # errors below the mean: twice that low, as it is doubled. Rounding to 8 bits adds a twelfth.
    rounding = 1 / 12 if dtype == np.uint8 else 0
    found = measured(noisy(deviation, dtype=dtype)).deviation
    assert found == pytest.approx(0.85 * (deviation**2 + rounding) ** 0.5, rel=0.05)


def test_the_grain_is_that_of_fine_noise_and_not_of_a_lack_of_texture():
    assert measured(noisy(3)).grain == pytest.approx(0.9 * 3, rel=0.1)
    assert measured(noisy(0)).grain < 0.2
    coarse = noisy(6, (120, 160)).repeat(2, 0).repeat(2, 1)  # grain of 2 x 2 pixels, and none within them
    assert measured(coarse).grain == 0


def test_arrays_and_tensors_measure_the_same():
    settings = PixelSettings(noise=None)
    one, other = TorchEngine(zdce.load("local"), "fp32"), Engine(stored.read("local"))
    picture = noisy(3, (97, 141))
    fractions = picture.astype(np.float32) / 255
    turned = (np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0) for pixels in (picture, fractions))
    pictures = [picture, fractions, *turned]
    values = [(255 * one._noise(torch.from_numpy(pixels), settings)).tolist() for pixels in pictures]
    values += [other._noise(pixels, settings) for pixels in pictures[:2]]
    # Fractions are rounded.
    np.testing.assert_allclose(values, [values[0]] * len(values), rtol=1e-5)
    assert measured(picture[::-1, ::-1]).deviation == pytest.approx(values[0][0], rel=0.1)  # other blocks


def test_texture_and_edges_are_no_noise():
    for name in ("chelsea", "coffee", "astronaut"):
        assert measured(getattr(photographs, name)()[..., :3]).deviation < 2.0


@pytest.mark.parametrize("level", [0, 255])
def test_nothing_is_measured_where_all_is_black_or_white(level):
    assert measured(np.full((200, 200, 3), level, np.uint8)) == (0, 0)


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (16, 16), (30, 40)])
def test_small_pictures_are_too_few_blocks(size):
    assert measured(noisy(5, size)) == (0, 0)


def test_a_pattern_of_pixels_is_bounded():
    checks = np.indices((200, 200)).sum(0)[..., None] % 2 * np.full(3, 100) + 50
    assert measured(checks.astype(np.uint8)) == (10, 10)


def test_noise_is_what_is_set_or_measured_but_no_less_than_the_networks_own():
    strong, weak = Noise(5.0, 6.0), Noise(0.3, 0.4)
    assert noise.assumed(2.0, 1.4, lambda: strong) == (2, 0)
    assert noise.assumed(0.0, 1.4, lambda: strong) == (0, 0)
    assert noise.assumed(None, 1.4, lambda: strong) == (5, 6)
    assert noise.assumed(None, 1.4, lambda: weak) == (1.4, 0.4)
    assert noise.assumed(None, 0.0, lambda: strong) == (0, 0)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_enhancers_measure_noise_where_none_is_set(backend):
    model, wild = zdce.load("local"), noisy(16, (120, 160)) // 4
    found = measured(wild)
    assert min(found) > 3
    with zdce.backend(backend):
        enhancer = zdce.Enhancer(model)
        plain = torch.from_numpy(zdce.Enhancer(model, noise=0)(wild))
        expected = zdce.ops.denoise_picture(torch.from_numpy(wild), plain, *(level / 255 for level in found))
        assert np.array_equal(enhancer(wild), expected.numpy())
        assert (enhancer(wild) != zdce.Enhancer(model, noise=found.deviation)(wild)).any()  # which has no grain
        assert np.array_equal(enhancer.apply(wild, enhancer.maps(wild)), enhancer(wild))
        assert (enhancer(wild) != zdce.Enhancer(model, noise=1.4)(wild)).any()
        base = zdce.load("base")
        assert np.array_equal(zdce.Enhancer(base)(wild), zdce.Enhancer(base, noise=0)(wild))
