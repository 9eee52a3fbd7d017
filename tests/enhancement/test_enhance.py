"""``zdce.enhance`` on arrays, tensors, Pillow images and paths, each returned in the same kind; the same as a transform."""

import os
import pickle
from collections import defaultdict, namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import zdce
from zdce.bench.infer import random_network
from zdce.enhancement import enhance
from zdce.enhancement.transforms import Enhance
from zdce.io import images

Sample = namedtuple("Sample", "image label")


@pytest.fixture(scope="module")
def model():
    return random_network("iters4")


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(model, pixels):
    """What the enhancer gives for ``pixels``."""
    result = zdce.Enhancer(model)(pixels)
    assert np.abs(result.astype(int) - pixels).max() > 20
    return result


def off(got, given, white, step, model):
    """How far ``got`` is from ``given`` (3, H, W) enhanced in float32, both up to ``white``, in steps of their type."""
    truth = zdce.Enhancer(model)(torch.as_tensor(given).to(torch.float32)[None] / white)[0].double()
    return ((torch.as_tensor(got).double() / white - truth).abs().max() / step).item()


@pytest.mark.parametrize(
    ("dtype", "white", "step"),
    [
        (np.uint8, 255, 1 / 255),
        (np.uint16, 65535, 1 / 65535),
        (np.float16, 1, 2**-11),
        (np.float32, 1, 1e-6),
        (np.float64, 1, 1e-6),
    ],
)
def test_arrays(model, pixels, dtype, white, step):
    given = (pixels / 255 * white).round().astype(dtype) if white > 1 else (pixels / 255).astype(dtype)
    before = given.copy()
    got = zdce.enhance(given, model)
    assert (got.dtype, got.shape) == (dtype, given.shape)
    # Half a step is rounding; the engine's float32 adds 1e-6 or less.
    assert off(got.transpose(2, 0, 1), given.transpose(2, 0, 1), white, step, model) < 0.6
    assert np.array_equal(given, before)
    assert np.array_equal(zdce.enhance(np.stack([given, given[::-1]]), model)[0], got)
    opacity = np.maximum(given[..., :1][::-1], np.asarray(white / 255, dtype))  # all is visible
    with_opacity = zdce.enhance(np.concatenate([given, opacity], 2), model)
    assert np.array_equal(with_opacity[..., :3], got)
    assert np.array_equal(with_opacity[..., 3:], opacity)


def test_arrays_with_blue_first_are_turned_around(model, pixels, expected, tmp_path):
    cv2 = pytest.importorskip("cv2")
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    bgr = cv2.imread(str(tmp_path / "photo.png"))
    bright = zdce.enhance(bgr[..., ::-1], model)[..., ::-1]
    cv2.imwrite(str(tmp_path / "bright.png"), bright)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "bright.png")), expected)
    opaque = np.concatenate([bgr, np.full((*bgr.shape[:2], 1), 255, np.uint8)], 2)
    turned = [2, 1, 0, 3]
    assert np.array_equal(zdce.enhance(opaque[..., turned], model)[..., turned][..., :3], bright)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_strides_may_be_negative(model, pixels, dtype):
    given = (pixels / 255).astype(dtype) if np.issubdtype(dtype, np.floating) else pixels.astype(dtype)
    for view in (given[..., ::-1], given[::-1], given[:, ::-1], given[::-2, ::-1, ::-1]):
        assert np.array_equal(zdce.enhance(view, model), zdce.enhance(view.copy(), model))


def test_arrays_of_scikit_image_are_taken(model, pixels, expected):
    util = pytest.importorskip("skimage.util")
    got = util.img_as_ubyte(zdce.enhance(util.img_as_float(pixels), model))
    assert np.abs(got.astype(int) - expected).max() <= 1  # what lies halfway between two levels goes to either


def test_grey_arrays_stay_grey(model, pixels):
    grey = pixels[..., 0]
    got = zdce.enhance(grey, model)
    assert (got.dtype, got.shape) == (np.uint8, grey.shape)
    mean = zdce.Enhancer(model)(np.repeat(grey[..., None], 3, 2)).mean(2)
    assert np.abs(got - mean).max() <= 0.5
    assert np.array_equal(zdce.enhance(grey[..., None], model), got[..., None])
    assert np.abs(zdce.enhance(grey / 255, model) * 255 - mean).max() <= 0.51


@pytest.mark.parametrize(
    ("dtype", "white", "step"),
    [
        (torch.uint8, 255, 1 / 255),
        (torch.uint16, 65535, 1 / 65535),
        (torch.bfloat16, 1, 2**-8),
        (torch.float16, 1, 2**-11),
        (torch.float32, 1, 1e-6),
        (torch.float64, 1, 1e-6),
    ],
)
def test_tensors(model, pixels, dtype, white, step):
    values = torch.from_numpy(pixels.transpose(2, 0, 1) / 255 * white)
    image = (values.round() if white > 1 else values).to(dtype)
    got = zdce.enhance(image, model)
    assert (got.dtype, got.shape) == (dtype, image.shape)
    assert off(got, image, white, step, model) < 0.6
    assert torch.equal(zdce.enhance(torch.stack([image, image.flip(1)]), model)[0], got)


def test_enhanced_tensors_can_be_trained_on(model):
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    estimator = torch.nn.Conv2d(3, 1, 3)
    estimator(zdce.enhance(image, model)).sum().backward()
    assert estimator.weight.grad.isfinite().all()
    assert image.grad is None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_pillow_images_keep_their_mode(model, pixels, mode):
    grey = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else None
    opacity = np.maximum(pixels[..., 0], 1)  # all is visible
    image = grey or Image.fromarray(np.dstack([pixels, opacity])).convert(mode)
    image.info["dpi"] = (300, 300)
    got = zdce.enhance(image, model)
    assert (got.mode, got.size, got.info["dpi"]) == (mode, image.size, (300, 300))
    colors = np.asarray(image.convert("RGB") if grey is None else Image.fromarray(pixels[..., 0]).convert("RGB"))
    wanted = zdce.Enhancer(model)(colors)
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(np.asarray(got)[..., :3], wanted)
    else:
        levels_of = np.asarray(got.getchannel(0) if mode != "I;16" else got) / (257 if mode == "I;16" else 1)
        assert np.abs(levels_of - wanted.mean(2)).max() < 1
    if mode.endswith("A"):
        assert got.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_palettes_become_colours(model, pixels):
    image = Image.fromarray(pixels).quantize(32)
    assert np.array_equal(np.asarray(zdce.enhance(image, model)), zdce.Enhancer(model)(np.asarray(image.convert("RGB"))))


def maker(path):
    with Image.open(path) as image:
        return image.getexif()[0x010F]


def test_paths(model, weights, pixels, expected, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 3  # lies on its head
    Image.fromarray(pixels[::-1, ::-1]).save(tmp_path / "dark.png", exif=exif)
    got = zdce.enhance(tmp_path / "dark.png", model)
    assert np.array_equal(np.asarray(got), expected)
    assert np.array_equal(np.asarray(zdce.enhance(str(tmp_path / "dark.png"), weights)), expected)
    got.save(tmp_path / "again.png", exif=got.info["exif"])
    assert maker(tmp_path / "again.png") == "Maker"

    target = zdce.enhance(tmp_path / "dark.png", str(weights), output=str(tmp_path / "bright.png"))
    assert target == tmp_path / "bright.png"
    assert np.array_equal(images.read(target).pixels, expected)
    assert maker(target) == "Maker"
    with pytest.raises(ValueError, match="output must be another file than image"):
        zdce.enhance(target, model, output=tmp_path / "x" / ".." / "bright.png")


def test_scale_strength_and_precision_are_the_enhancers(model, pixels):
    got = zdce.enhance(pixels, model, scale=4, strength=0.5)
    assert np.array_equal(got, zdce.Enhancer(model, scale=4, strength=0.5)(pixels))
    with pytest.raises(ValueError, match="precision must be one of"):
        zdce.enhance(pixels, model, precision="fp8")


def test_a_file_is_loaded_once_until_it_changes(monkeypatch, pixels, tmp_path):
    loaded, load = [], enhance.load
    monkeypatch.setattr(enhance, "load", lambda name, device: loaded.append(name) or load(name, device))
    path = tmp_path / "net.safetensors"
    random_network("iters4").save(path)
    first = zdce.enhance(pixels, path)
    assert np.array_equal(zdce.enhance(pixels, path), first)
    assert len(loaded) == 1
    random_network("base").save(path)
    os.utime(path, ns=(1, 1))
    assert not np.array_equal(zdce.enhance(pixels, path), first)
    assert len(loaded) == 2


@pytest.mark.parametrize(
    ("image", "options", "kind", "message"),
    [
        ([1, 2], {}, TypeError, "image must be an array, a tensor, a Pillow image or a path, got list"),
        (np.zeros((4, 4, 3), np.int32), {}, TypeError, "image must be a uint8, uint16 or floating array, got int32"),
        (np.zeros((4, 4, 2)), {}, ValueError, r"image must be \(H, W\), .*, got \(4, 4, 2\)"),
        (np.zeros((0, 4)), {}, ValueError, r"got \(0, 4\)"),
        (np.full((4, 4, 3), np.nan), {}, ValueError, "image must be finite"),
        (np.full((4, 4, 3), 200, np.float32), {}, ValueError, r"image must be in \[0, 1\], got values from 200 to 200; divide"),
        (np.full((4, 4), 1.5), {}, ValueError, r"image must be in \[0, 1\], got values from 1.5 to 1.5"),
        (torch.full((3, 4, 4), 65535.0), {}, ValueError, r"image must be in \[0, 1\], got values from 6.554e\+04"),
        (torch.full((2, 3, 4, 4), -1.0, dtype=torch.float64), {}, ValueError, r"image must be in \[0, 1\], got values from -1"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), {}, TypeError, "a uint8, uint16 or floating tensor, got torch.int64"),
        (torch.zeros(4, 4, 3), {}, ValueError, r"image must be \(3, H, W\) or \(B, 3, H, W\) .*, got \(4, 4, 3\)"),
        (Image.new("F", (4, 4)), {}, ValueError, "expected pixels of 8 or 16 bits"),
        (Image.new("RGB", (0, 4)), {}, ValueError, "image must have at least one pixel, got 0 x 4"),
        ("no-such.jpg", {}, FileNotFoundError, "no-such.jpg"),
        (np.zeros((4, 4, 3)), {"output": "x.png"}, ValueError, "output needs an image that is a path, got ndarray"),
        (np.zeros((4, 4, 3)), {"model": "no-such.safetensors"}, FileNotFoundError, "no weights at no-such.safetensors"),
    ],
)
def test_mistakes(model, image, options, kind, message):
    with pytest.raises(kind, match=message):
        zdce.enhance(image, **{"model": model, **options})


def test_no_model_and_no_default(monkeypatch, pixels):
    monkeypatch.setattr(enhance, "DEFAULT", None)
    with pytest.raises(ValueError, match=r"model must be a network or a .safetensors file of zdce train, got None"):
        zdce.enhance(pixels)


def test_the_default_is_taken_where_there_is_one(monkeypatch, weights, pixels, expected):
    monkeypatch.setattr(enhance, "DEFAULT", str(weights))
    assert np.array_equal(zdce.enhance(pixels), expected)
    assert np.array_equal(np.asarray(Enhance()(Image.fromarray(pixels))), expected)


def test_the_transform_takes_samples_and_lets_the_rest_pass(model, pixels, expected):
    brighten = Enhance(model)
    picture, mask = Image.fromarray(pixels), torch.zeros(30, 41)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    bright = torch.from_numpy(expected.copy()).permute(2, 0, 1)
    assert torch.equal(brighten(image), bright)
    assert torch.equal(brighten(image[None]), bright[None])
    got, label = brighten(picture, 3)
    assert (np.array_equal(np.asarray(got), expected), label) == (True, 3)
    got = brighten({"image": picture, "target": [mask, {"name": "night"}]})
    assert np.array_equal(np.asarray(got["image"]), expected)
    assert got["target"][0] is mask
    assert got["target"][1] == {"name": "night"}
    given = defaultdict(list, image=picture)
    got = brighten(given)
    assert (type(got), got["boxes"], given["image"]) == (defaultdict, [], picture)
    assert np.array_equal(np.asarray(got["image"]), expected)
    got = brighten(Sample(image, torch.tensor(2)))
    assert torch.equal(got.image, bright)
    assert type(got) is Sample
    # As torchvision's v2: one plain tensor is the image, and none where there is a picture.
    first, second = brighten((image, image.clone()))
    assert torch.equal(first, bright)
    assert torch.equal(second, image)
    assert repr(brighten).startswith("Enhance(iters4, EnhanceSettings(scale=1, strength=1.0, ")
    with pytest.raises(TypeError, match="inputs must hold a Pillow image or a tensor, got dict"):
        brighten({"label": 3})
    with pytest.raises(TypeError, match="inputs must hold a Pillow image or a tensor, got tuple"):
        brighten()


def test_the_transform_is_pickled_without_what_the_processor_needs(model, weights, pixels, expected):
    for brighten in (Enhance(model), Enhance(weights)):
        brighten(Image.fromarray(pixels))
        again = pickle.loads(pickle.dumps(brighten))
        assert again._enhancer._engines.packed is None
        assert np.array_equal(np.asarray(again(Image.fromarray(pixels))), expected)


class Nights(torch.utils.data.Dataset):
    """Two pictures through a transform."""

    def __init__(self, pixels, transform):
        self.pixels, self.transform = pixels, transform

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.transform(torch.from_numpy(self.pixels.copy()).permute(2, 0, 1), index)


def test_the_transform_runs_in_workers(weights, pixels, expected):
    brighten = Enhance(weights)
    brighten(torch.rand(3, 8, 8))  # used before its process is left: threads must not hang
    loader = DataLoader(Nights(pixels, brighten), batch_size=2, num_workers=1, timeout=60)
    ((batch, labels),) = list(loader)
    assert labels.tolist() == [0, 1]
    assert torch.equal(batch[1], torch.from_numpy(expected.copy()).permute(2, 0, 1))


def test_the_transform_works_in_torchvisions_pipelines(model, pixels, expected):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    pipeline = v2.Compose([v2.ToImage(), Enhance(model), v2.ToDtype(torch.float32, scale=True)])
    image, label = pipeline(Image.fromarray(pixels), 3)
    assert (type(image), label) == (tv_tensors.Image, 3)
    assert np.abs(image.permute(1, 2, 0).numpy() * 255 - expected).max() < 1e-4
    masks = tv_tensors.Mask(torch.zeros(1, 30, 41))
    sample = Enhance(model)({"masks": masks, "image": tv_tensors.Image(torch.from_numpy(pixels.copy()).permute(2, 0, 1))})
    assert sample["masks"] is masks
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), expected)
