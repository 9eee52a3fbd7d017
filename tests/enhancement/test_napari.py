"""napari's widget on napari's own layers, without a display, and the manifest by npe2.

Both install a plug-in of pytest that its strict warnings stop; so they are not among the tests' extras:
`python -m pytest -o filterwarnings= tests/enhancement/test_napari.py` in an environment with napari.
"""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zdce

layers = pytest.importorskip("napari.layers", reason="napari is not installed")

from zdce.enhancement import napari as widget  # noqa: E402

DARK = Path(__file__).resolve().parents[2] / "docs" / "dark.jpg"


@pytest.fixture(scope="module")
def dark():
    return np.asarray(Image.open(DARK).convert("RGB").crop((100, 60, 260, 180)))


def test_colours_become_what_enhance_gives_and_the_layer_keeps_its_place(dark):
    affine = np.array([[1, 0.5, 7], [0, 2, 8], [0, 0, 1]])
    layer = layers.Image(dark, name="night", scale=(2, 3), translate=(5, 6), affine=affine)
    data, properties, kind = widget.brighten(layer, strength=0.7)
    assert np.array_equal(data, zdce.enhance(dark, strength=0.7))
    made = layers.Layer.create(data, properties, kind)
    assert (made.name, made.rgb, tuple(made.scale), tuple(made.translate)) == ("night (brighter)", True, (2, 3), (5, 6))
    np.testing.assert_allclose(made.affine.affine_matrix, affine)


def test_pictures_of_a_stack_are_brightened_each_for_itself(dark):
    stack = np.stack([dark, dark // 2])
    data, *_ = widget.brighten(layers.Image(stack, rgb=True))
    assert np.array_equal(data, np.stack([zdce.enhance(picture) for picture in stack]))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_grey_is_seen_between_its_contrast_limits(dark, kind):
    grey = (dark.mean(2) * 4 + 1000).astype(kind) if kind != np.uint8 else dark.mean(2).astype(kind)
    limits = (0, 255) if kind == np.uint8 else (1000, 2020)
    layer = layers.Image(grey, contrast_limits=limits, colormap="magma")
    data, properties, _ = widget.brighten(layer)
    assert (data.dtype, data.shape) == (grey.dtype, grey.shape)
    white = limits[1] - limits[0]
    shown = ((grey.astype(np.float32) - limits[0]) / white).clip(0, 1)
    np.testing.assert_allclose((data.astype(float) - limits[0]) / white, zdce.enhance(shown), atol=1 / white + 1e-6)
    assert data.mean() - limits[0] > 2 * (grey.mean() - limits[0])
    assert layers.Layer.create(data, properties, "image").colormap.name == "magma"
    assert tuple(properties["contrast_limits"]) == limits


def test_lit_pictures_stay_where_that_is_asked_for():
    lit = np.random.default_rng(0).integers(100, 200, (40, 60, 3), np.uint8)
    data, *_ = widget.brighten(layers.Image(lit), only_if_dark=True)
    assert np.array_equal(data, lit)


def test_layers_of_several_scales_are_refused(dark):
    layer = layers.Image([dark, dark[::2, ::2]], multiscale=True, name="pyramid")
    with pytest.raises(ValueError, match="pyramid: expected a layer of one scale, got 2"):
        widget.brighten(layer)


def test_npe2_finds_the_manifest_valid():
    manifest = Path(widget.__file__).with_suffix(".yaml")
    ran = subprocess.run([sys.executable, "-m", "npe2", "validate", str(manifest)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    from npe2 import PluginManifest

    (command,) = PluginManifest.from_file(manifest).contributions.commands
    module, _, name = command.python_name.partition(":")
    assert getattr(importlib.import_module(module), name) is widget.brighten
