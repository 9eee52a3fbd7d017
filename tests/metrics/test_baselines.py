"""Simple methods beside a network."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import ndimage

from cases import two_pictures
from zdce.data import sample
from zdce.metrics import baselines
from zdce.metrics.halos import halo


def test_baselines():
    image, _ = two_pictures()
    dark = image // 5
    assert np.array_equal(baselines.autocontrast(dark), np.asarray(ImageOps.autocontrast(Image.fromarray(dark))))
    assert np.array_equal(baselines.gamma(dark), np.rint((dark / 255) ** 0.4 * 255))
    assert baselines.clahe(dark).mean() > dark.mean()
    assert np.array_equal(baselines.clahe(flat := np.full((40, 50, 3), 10, np.uint8)), flat)


def test_retinex_is_its_definition():
    dark = two_pictures()[0] // 5
    values = dark / 255
    light = ndimage.gaussian_filter(values.max(axis=2), 5, mode="nearest")
    brightened = [ndimage.gaussian_filter(values[..., c] / light**0.7, 1.2, mode="nearest") for c in range(3)]
    expected = np.clip(np.stack(brightened, axis=2), 0, 1) * 255
    assert np.abs(baselines.retinex(dark) - expected).max() <= 0.5 + 1e-9  # rounded to integers
    assert not baselines.retinex(np.zeros((9, 9, 3), np.uint8)).any()


def energy(smooth, light, alpha, sigma):
    """What `smooth_light` minimises, written out with sums over pairs of neighbours."""
    total = np.sum((smooth - light) ** 2)
    for axis in (0, 1):
        before = np.diff(light, axis=axis, append=light.take([-1], axis=axis))
        blurred = ndimage.gaussian_filter(before, sigma, mode="nearest")
        weight = 1 / ((abs(blurred) + 0.02) * (abs(before) + 0.02))
        inner = weight[:-1] if axis == 0 else weight[:, :-1]
        total += alpha * np.sum(inner * np.diff(smooth, axis=axis) ** 2)
    return total


def test_light_is_the_smoothest_near_it():
    random = np.random.default_rng(0)
    light = np.repeat(np.repeat(random.uniform(0, 1, (4, 5)), 8, axis=0), 8, axis=1) * 0.8 + random.uniform(0, 0.1, (32, 40))
    smooth = baselines.smooth_light(light, 0.15, 2.0)
    least = energy(smooth, light, 0.15, 2.0)
    assert least < energy(light, light, 0.15, 2.0) / 2
    for _ in range(5):
        # No other plane has less, but for the thousandth that the solver stops before.
        assert energy(smooth + random.normal(0, 0.01, light.shape), light, 0.15, 2.0) > least
    assert least < 1.001 * energy(smooth * 1.01, light, 0.15, 2.0)
    assert least < 1.001 * energy(smooth * 0.99, light, 0.15, 2.0)


@pytest.mark.parametrize("method", ["LIME", "fusion"])
def test_light_with_edges_brightens_with_weaker_halos(method):
    reference = sample.photograph("coffee")[::4, ::4]
    dark = np.rint((reference / 255) ** 1.5 * 0.3 * 255).astype(np.uint8)
    result = baselines.BASELINES[method](dark)
    assert result.shape == dark.shape
    assert result.dtype == np.uint8
    assert result.mean() > 1.8 * dark.mean()
    step = np.repeat(np.where(np.arange(120) < 60, 20, 160).astype(np.uint8)[None], 100, axis=0)[..., None].repeat(3, axis=2)
    assert abs(halo(baselines.BASELINES[method](step), step)) < 0.7 * halo(baselines.retinex(step), step)
    black = np.zeros((9, 12, 3), np.uint8)
    assert not baselines.BASELINES[method](black).any()
    assert baselines.BASELINES[method](dark[:1, :1]).shape == (1, 1, 3)


def test_lime_divides_by_the_light():
    flat = np.broadcast_to(np.uint8([51, 102, 20]), (20, 30, 3))  # a light of 0.4
    expected = np.rint(flat / 255 / 0.4**0.8 * 255)
    assert abs(baselines.lime(flat) - expected).max() <= 1


def test_fusion_leaves_what_is_lit_and_exposes_what_is_dark():
    lit = np.full((60, 60, 3), 255, np.uint8)
    assert np.array_equal(baselines.exposure_fusion(lit), lit)
    # Pixels of one level have no entropy that an exposure could change: only the weights decide, and a ratio from 1 to 7.
    dark = baselines.exposure_fusion(np.full((60, 60, 3), 20, np.uint8))
    assert 20 <= dark.min() <= dark.max() <= 255 * np.exp(1.1258 * (1 - 7**-0.3293)) * (20 / 255) ** 7**-0.3293 + 1


def test_the_study_shows_the_usual_methods():
    assert set(baselines.USUAL) == set(baselines.BASELINES) - {"LIME", "fusion"}
