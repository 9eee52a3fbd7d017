"""Collections of pictures, and the built-in sample."""

import numpy as np
import pytest
from PIL import Image

from zdce.data import darkening, datasets, sample
from zdce.srgb import light_of_srgb, srgb_of_light


def write(path, value, size=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def test_lols_layout_pairs_by_name(tmp_path):
    for i, name in enumerate(("10.png", "2.png", "30.png", "4.png")):
        write(tmp_path / "our485" / "low" / name, i)
    write(tmp_path / "our485" / "high" / "4.bmp", 200)
    for source in (tmp_path, tmp_path / "our485"):
        pictures = datasets.collection(str(source))
        assert [item.name for item in pictures.items] == ["10.png", "2.png", "30.png", "4.png"]
        assert [item.name for item in pictures.validation_items()] == ["4.png"]
        assert pictures.items[3].load_reference().max() == 200
        assert pictures.items[0].load_reference is None


def test_a_folder_is_searched_through(tmp_path):
    for name in ("b/1.jpg", "a.webp", "b/c/2.tiff", "z.bmp"):
        write(tmp_path / name, 9)
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = datasets.collection(str(tmp_path))
    assert [item.name for item in pictures.items] == ["a.webp", "b/1.jpg", "b/c/2.tiff", "z.bmp"]
    assert len(pictures.training_items()) == 3


def test_what_can_not_train_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder: nowhere"):
        datasets.collection("nowhere")
    write(tmp_path / "one.png", 9)
    with pytest.raises(ValueError, match=r"must hold at least 2 pictures .* got 1"):
        datasets.collection(str(tmp_path))


def test_lol_splits_as_the_report_does(data_folder):
    pictures = datasets.collection(str(data_folder / "lol" / "our485"))
    assert len(pictures.training_items()) == 399
    assert len(pictures.validation_items()) == 85
    assert all(item.load_reference is not None for item in pictures.validation_items())
    assert not any(item.load_reference for item in pictures.training_items())


def test_pictures_are_resized_as_pillow_does(tmp_path):
    random = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(random.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / f"{i}.png")
    items = datasets.collection(str(tmp_path)).items
    stacked = datasets.load_resized(items, 16, "loading")
    assert stacked.shape == (5, 3, 16, 16)
    for i, item in enumerate(items):
        expected = Image.open(tmp_path / item.name).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.array_equal(stacked[i].permute(1, 2, 0), np.asarray(expected))


def test_a_broken_picture_is_named(tmp_path):
    write(tmp_path / "good.png", 9)
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    with pytest.raises(OSError, match=r"bad\.png"):
        datasets.load_resized(datasets.collection(str(tmp_path)).items, 16, "loading")


def test_the_sample_is_the_same_every_time_and_dark():
    pictures = datasets.collection("sample")
    assert [item.name.split("-")[0] for item in pictures.validation_items()] == ["rocket"] * 32
    assert "rocket" not in {item.name.split("-")[0] for item in pictures.training_items()}
    item = pictures.items[5]
    dark, reference = item.load(), item.load_reference()
    assert np.array_equal(dark, item.load())
    assert dark.shape == reference.shape
    assert dark.dtype == reference.dtype == np.uint8
    light = [light_of_srgb(x / 255.0).mean() for x in (dark, reference)]
    least, most = sample.PICTURES.exposure
    assert least * 0.9 < light[0] / light[1] < most * 1.1


def test_srgb_is_its_own_inverse():
    values = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(srgb_of_light(light_of_srgb(values)), values, atol=1e-6)
    assert light_of_srgb(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)


def test_colours_in_all_orders_leave_no_common_tint():
    def orange(name):
        return np.full((40, 40, 3), (200, 100, 50), np.uint8)

    wells = (2000.0, 8000.0)
    pictures = darkening.DarkPictures(("flat",), orange, (0.3, 0.3), wells, per_photograph=12, permuted=True)
    colors = {tuple(pictures.reference(name)[0, 0].tolist()) for name in pictures.names()}
    assert len(colors) == 6
    assert all(sorted(color) == [50, 100, 200] for color in colors)
    for name in pictures.names():
        assert np.array_equal(np.argsort(pictures.darkened(name).mean((0, 1))), np.argsort(pictures.reference(name)[0, 0]))


@pytest.mark.parametrize("picture", [0, 1])
def test_the_noise_is_poissons_and_the_readers(picture):
    # A flat photograph, without gamma: variance of the light is (light / well) + (read noise / well)^2.
    wells = (2000.0, 8000.0)
    flat = darkening.DarkPictures(("flat",), lambda name: np.full((500, 500, 3), 255, np.uint8), (0.05, 0.3), wells)
    dark = light_of_srgb(flat.darkened(flat.names()[picture]) / 255.0)
    light, well = dark.mean(), wells[picture]
    expected = (light / well + (flat.read_noise / well) ** 2) ** 0.5
    quantised = light_of_srgb(np.array(0.5 / 255 + srgb_of_light(light))) - light
    assert abs(dark.std() - expected) < 0.03 * expected + quantised
    assert abs((((dark - dark.mean()) / dark.std()) ** 3).mean()) < 0.1  # its skewness
