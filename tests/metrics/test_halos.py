"""Halos of known strength."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from zdce.metrics.halos import halo

# A step of 3 stops and more, and the distance of each column's centre from it.
STEP = np.where(np.arange(240) < 120, 20.0, 160.0)
DISTANCE = np.arange(240) - 119.5


def picture(columns):
    return np.repeat(np.rint(np.broadcast_to(columns, (200, 240))).astype(np.uint8)[..., None], 3, axis=2)


def brightened(stops):
    """The step with a gain of ``stops`` in each column, as the measure counts gain: with 0.01 added to luma."""
    return picture(((STEP / 255 + 0.01) * 2.0**stops - 0.01) * 255)


@pytest.mark.parametrize("stops", [-0.2, 0.0, 0.1, 0.3, 0.5])
def test_a_known_halo(stops):
    # Lighter along the lighter side, darker along the darker, within the 4 pixels of the band; the dark side is brightened.
    gain = np.where(DISTANCE < 0, 0.5, -0.4) + stops * np.sign(DISTANCE) * (abs(DISTANCE) < 4)
    # Values are whole levels: half of one is 0.03 stops at 24 levels, and the band's both sides are averaged.
    assert halo(brightened(gain), picture(STEP)) == pytest.approx(stops, abs=0.02)


def test_curves_and_gain_that_has_the_edges_make_no_halo():
    image = picture(STEP)
    noise = np.random.default_rng(0).normal(0, 1, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    for exponent in (0.4, 0.7):
        assert halo(np.rint((image / 255) ** exponent * 255).astype(np.uint8), image) == pytest.approx(0, abs=1e-6)
        curve = np.rint((noisy / 255) ** exponent * 255).astype(np.uint8)
        assert halo(curve, noisy) == pytest.approx(0, abs=0.02)
    assert halo(brightened(np.where(DISTANCE < 0, 1.5, 0.0)), image) == pytest.approx(0, abs=1e-6)
    # A stop over the whole width is 0.05 over the 12 pixels that lie between the band and those it is compared with.
    assert halo(brightened(np.where(DISTANCE < 0, 1.0, 0.0) + DISTANCE / 240), image) == pytest.approx(-0.05, abs=0.01)


def test_light_that_is_blurred_over_an_edge_makes_halos():
    image = picture(STEP)
    light = gaussian_filter(image[..., 0] / 255, 5)[..., None]
    assert halo(np.rint(image / light**0.7 * 0.3).astype(np.uint8), image) > 0.2


def test_without_edges_there_is_nothing_to_measure():
    assert math.isnan(halo(picture(STEP * 0 + 50), picture(STEP * 0 + 20)))
    assert math.isnan(halo(picture(STEP)[:1, :1], picture(STEP)[:1, :1]))
    assert halo(picture(STEP), picture(STEP)) == 0


def test_large_pictures_are_reduced():
    large = np.repeat(np.repeat(picture(STEP), 3, axis=0), 3, axis=1)
    gain = np.repeat(np.where(abs(DISTANCE) < 4, 0.3 * np.sign(DISTANCE), 0), 3)
    result = ((large[..., 0] / 255 + 0.01) * 2.0**gain - 0.01) * 255
    assert halo(np.repeat(np.rint(result).astype(np.uint8)[..., None], 3, axis=2), large) == pytest.approx(0.3, abs=0.02)
