"""Pixels under an opacity of 0 have no effect on visible ones."""

import numpy as np
import pytest
from PIL import Image

import zdce
from zdce.enhancement import colour
from zdce.enhancement.transparency import enhance_visible, filled
from zdce.io import images

HEIGHT, WIDTH, SEEN = 240, 320, 200


def dark_scene(dtype=np.uint8):
    """A dark gradient with noise, (HEIGHT, WIDTH, 3), and an alpha channel that shows its first SEEN columns."""
    random = np.random.default_rng(0)
    levels = np.linspace(8, 60, WIDTH)[None, :, None] + random.normal(0, 2, (HEIGHT, WIDTH, 3))
    pixels = levels.clip(0, 255).astype(np.uint8)
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, SEEN:] = 0
    factor = 257 if dtype == np.uint16 else 1
    return pixels.astype(dtype) * dtype(factor), alpha.astype(dtype) * dtype(factor)


def beneath(pixels, kind):
    changed, white = pixels.copy(), np.iinfo(pixels.dtype).max
    changed[:, SEEN:] = {"white": white, "black": 0}.get(kind, 0)
    if kind == "noise":
        changed[:, SEEN:] = np.random.default_rng(1).integers(0, white, changed[:, SEEN:].shape, endpoint=True)
    return changed


@pytest.mark.parametrize("name", ["local", "adaptive", "base"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_seen_does_not_depend_on_what_is_not(name, dtype):
    pixels, alpha = dark_scene(dtype)
    results = []
    for kind in ("white", "black", "noise"):
        image = np.dstack([beneath(pixels, kind), alpha])
        result = zdce.enhance(image, name)
        assert np.array_equal(result[:, SEEN:], image[:, SEEN:])
        results.append(result[:, :SEEN])
    assert all(np.array_equal(results[0], other) for other in results[1:])
    # It is about as bright as the visible part alone would be.
    alone = zdce.enhance(np.ascontiguousarray(pixels[:, :SEEN]), name)
    white = np.iinfo(dtype).max
    assert abs(results[0][..., :3].mean() - alone.mean()) < 0.02 * white
    assert alone.mean() > 1.5 * pixels[:, :SEEN].mean()


def test_files_floats_and_pillow_images_are_alike(tmp_path):
    pixels, alpha = dark_scene()
    array = zdce.enhance(np.dstack([beneath(pixels, "white"), alpha]))
    for kind in ("white", "black"):
        image = Image.fromarray(np.dstack([beneath(pixels, kind), alpha]))
        image.save(tmp_path / "a.png")
        assert np.array_equal(np.asarray(zdce.enhance(image))[:, :SEEN], array[:, :SEEN])
        assert np.array_equal(np.asarray(zdce.enhance(tmp_path / "a.png"))[:, :SEEN], array[:, :SEEN])
        floats = zdce.enhance(np.dstack([beneath(pixels, kind), alpha]).astype(np.float32) / 255)
        assert np.abs(floats[:, :SEEN] * 255 - array[:, :SEEN]).max() <= 3


def test_a_profile_is_converted_as_ever():
    pixels, alpha = dark_scene()
    enhancer = zdce.Enhancer(zdce.load("base"))
    opaque = images.Picture(pixels, alpha=np.full_like(alpha, 255))
    assert np.array_equal(colour.enhance(opaque, enhancer).pixels, enhancer(pixels))


def test_filled_pictures_have_the_statistics_of_what_is_seen():
    pixels, alpha = dark_scene()
    whole, seen = filled(pixels, alpha), pixels[alpha > 0]
    assert np.array_equal(whole[alpha > 0], seen)
    for share in (0.1, 0.5, 0.9):
        assert abs(np.quantile(whole, share) - np.quantile(seen, share)) <= 1
    assert filled(pixels, None) is pixels
    assert filled(pixels, np.zeros_like(alpha)) is pixels


def test_a_picture_that_nobody_sees_stays():
    pixels, alpha = dark_scene()
    result = enhance_visible(pixels, np.zeros_like(alpha), lambda _: pytest.fail("there is nothing to enhance"))
    assert np.array_equal(result, pixels)
