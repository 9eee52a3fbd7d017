"""Measures of light, and of its order."""

import math

import numpy as np
import pytest
from PIL import Image

from zdce.metrics import light, lightness_order


def picture(rows):
    return np.repeat(np.uint8(rows)[..., None], 3, axis=2)


def test_a_pixel_is_clipped_where_one_channel_is():
    image = np.zeros((4, 5, 3), np.uint8)
    image[0, 0], image[1, :2, 1], image[2] = 255, 255, 254
    assert light.clipped_share(image) == 3 / 20


def test_halves_are_those_of_the_input_in_every_result():
    image = picture([[10, 20, 30], [40, 50, 60]])
    result = picture([[51, 102, 153], [255, 204, 0]])
    assert light.dark_half(image, image) == pytest.approx(20 / 255)
    assert light.lit_half(image, image) == pytest.approx(50 / 255)
    assert light.dark_half(result, image) == pytest.approx(102 / 255)
    assert light.lit_half(result, image) == pytest.approx(153 / 255)


def test_halves_are_of_luminance():
    image = np.uint8([[[255, 0, 0], [0, 255, 0]]])  # of the weights 0.2126 and 0.7152
    assert light.dark_half(image, image) == pytest.approx(0.2126)
    assert light.lit_half(image, image) == pytest.approx(0.7152)


def test_a_picture_of_one_colour_has_no_lit_half():
    image = np.broadcast_to(np.uint8([3, 200, 77]), (5, 7, 3))
    assert light.dark_half(image, image) == pytest.approx((0.2126 * 3 + 0.7152 * 200 + 0.0722 * 77) / 255)
    assert math.isnan(light.lit_half(image, image))


def test_unchanged_is_a_mean_that_moves_by_less_than_a_fiftieth():
    image = picture(np.full((4, 4), 100))
    assert [light.unchanged(image + np.uint8(step), image) for step in (0, 5, 6)] == [1, 1, 0]  # 5 / 255 is 0.0196
    assert light.unchanged(image - np.uint8(6), image) == 0


def test_lightness_order_error_by_hand():
    image, result = picture([[10, 20, 30]]), picture([[20, 10, 30]])
    # Order of the first two: both comparisons between them change. For three pixels that is 2 of 9, 2/3 a pixel.
    assert lightness_order.lightness_order_error(result, image) == pytest.approx(2 / 3)
    # Equal values: 10 >= 20 was false and becomes true.
    assert lightness_order.lightness_order_error(picture([[10, 10, 30]]), image) == pytest.approx(1 / 3)
    assert lightness_order.lightness_order_error(image * 3, image) == 0
    # Lightness is the largest channel.
    red = image.copy()
    red[..., 1:] = 0
    assert lightness_order.lightness_order_error(red, image) == 0


def test_lightness_order_error_is_its_definition_on_reduced_pictures():
    random = np.random.default_rng(0)
    image, result = (random.integers(0, 256, (100, 150, 3), np.uint8) for _ in range(2))
    reduced = [Image.fromarray(p.max(axis=2)).resize((75, 50), Image.Resampling.BOX) for p in (image, result)]
    before, after = (np.asarray(p).ravel().astype(int) for p in reduced)
    changed = (before[:, None] >= before) ^ (after[:, None] >= after)
    assert lightness_order.lightness_order_error(result, image) == pytest.approx(changed.sum() / before.size)
