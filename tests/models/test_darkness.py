"""The rule for dark pictures, on photographs that people call lit or dark."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

import zdce
from zdce.models import darkness, guided_scene

DARK = Path(__file__).resolve().parents[2] / "docs" / "dark.jpg"


def rgb(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_lit_photographs_are_not_dark(name):
    assert not darkness.is_dark(getattr(skimage.data, name)())


def test_dark_photographs_are_dark(data_folder):
    assert darkness.is_dark(rgb(DARK))
    low = sorted((data_folder / "lol" / "our485" / "low").iterdir())[::8]
    dark = [path.name for path in low if darkness.is_dark(rgb(path))]
    assert len(dark) >= len(low) - 1  # of all 484, four are lit: 328, 330, 590 and 591, with a mean of 0.28 and more
    for name in ("01", "05", "07", "10", "12", "14", "18", "20", "27", "36"):
        assert darkness.is_dark(rgb(data_folder / "dicm" / f"{name}.jpg")), name
    for name in ("53", "58", "62", "66"):
        assert not darkness.is_dark(rgb(data_folder / "dicm" / f"{name}.jpg")), name


def test_a_backlit_scene_is_dark_and_a_lit_one_with_a_black_surround_is_not():
    backlit = np.full((90, 120, 3), 240, np.uint8)
    backlit[:, :70] = 25
    assert darkness.is_dark(backlit)
    framed = np.zeros((90, 120, 3), np.uint8)
    framed[20:70, 20:100] = 130
    assert not darkness.is_dark(framed)
    assert darkness.is_dark(np.zeros((3, 5, 3), np.uint8))


def test_all_types_of_numbers_and_the_default_networks_statistic_agree():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 130, 200), np.uint8).T * np.linspace(0, 1, 130)[None, :, None]
    pixels = np.ascontiguousarray(pixels.astype(np.uint8))
    halves = [
        darkness.halves(darkness._area_means(image)) for image in (pixels, pixels * np.uint16(257), pixels / np.float32(255))
    ]
    assert halves[0] == halves[1] == halves[2]
    scene = guided_scene.read(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    # Means are rounded to levels of 255, and pixels that change halves by it are alike.
    assert halves[0] == pytest.approx([scene.darker.item(), scene.brighter.item()], abs=1 / 255)


def test_frames_that_are_not_dark_get_no_curve():
    network = zdce.DCENet("base")
    torch.nn.init.constant_(network.convolutions[-1].bias, -0.3)
    enhancer = zdce.Enhancer(network, only_if_dark=True, scale=4)
    for level, changes in ((100, False), (20, True)):
        frame = np.full((48, 64, 3), level, np.uint8)
        assert bool(enhancer.maps(frame).any()) == changes
        assert bool((enhancer.apply(frame, enhancer.maps(frame)) != frame).any()) == changes
        assert bool((enhancer(frame) != frame).any()) == changes


def test_a_picture_is_judged_once(tmp_path, monkeypatch):
    judged, is_dark = [], darkness.is_dark
    monkeypatch.setattr(darkness, "is_dark", lambda image: judged.append(image.shape) or is_dark(image))
    Image.fromarray(np.full((48, 64, 3), 20, np.uint8)).save(tmp_path / "dark.png")
    zdce.enhance(tmp_path / "dark.png", zdce.DCENet("iters4"), output=tmp_path / "bright.png", only_if_dark=True)
    zdce.enhance(tmp_path / "dark.png", zdce.DCENet("iters4"), only_if_dark=True)
    assert judged == [(48, 64, 3)] * 2
