"""Whole pictures: exact tiles, any size and type, and scale and strength as defined."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import zdce
from zdce.models import engine, torch_engine
from zdce.models.engine import PixelSettings
from zdce.models.gpu_network import GpuNetwork
from zdce.models.torch_engine import TorchEngine
from zdce.models.variants import VARIANTS


@pytest.fixture(scope="module")
def random_network():
    """Networks whose curves are far from 0, as untrained ones' are not."""

    def make(name):
        torch.manual_seed(1)
        model = zdce.DCENet(name).eval()
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.data *= 1.5
        return model

    return make


def picture(height, width, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


def whole(model, image):
    """The network on the whole picture at once, in float64."""
    values = torch.from_numpy(image.astype(np.float64) / np.iinfo(image.dtype).max).permute(2, 0, 1)[None]
    with torch.no_grad():
        return model.double().enhance(values)[0].permute(1, 2, 0).numpy() * np.iinfo(image.dtype).max


@pytest.fixture(params=["auto", "reference"])
def way(request):
    """The engine, where it is built, and torch, tile by tile."""
    with zdce.backend(request.param):
        yield request.param


@pytest.mark.parametrize("name", VARIANTS)
def test_tiles_are_exact(monkeypatch, random_network, way, name):
    monkeypatch.setattr(torch_engine, "_TILE", 24)
    image = picture(67, 83) // 4  # dark enough that every variant changes it
    # What is denoised is rounded before as well, and noise takes that far: tests/models/test_scene.py has it.
    model = random_network(name)
    model.variant = replace(model.variant, noise=0.0)
    got = zdce.Enhancer(model)(image)
    assert got.dtype == np.uint8
    # Rounding to integers takes at most 1/2, float32's error is far below 1/100 of a level.
    assert np.abs(got - whole(model, image)).max() < 0.51


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (13, 12), (12, 24)])
@pytest.mark.parametrize("name", ["base", "layers7", "zero-dce-pp"])
def test_any_size(random_network, way, name, size):
    image = picture(*size)
    assert np.abs(zdce.Enhancer(random_network(name))(image) - whole(random_network(name), image)).max() < 0.51


def test_16_bits_stay_16_bits(random_network, way):
    image = picture(21, 34, np.uint16)
    got = zdce.Enhancer(random_network("base"))(image)
    assert got.dtype == np.uint16
    # float32 resolves 1/256 of a 16-bit level; 8 steps amplify.
    assert np.abs(got - whole(random_network("base"), image)).max() < 2


@pytest.mark.parametrize("scale", [2, 3, 12])
def test_scale_is_area_means_and_bilinear_maps(monkeypatch, random_network, scale):
    monkeypatch.setattr(torch_engine, "_TILE", 30)
    image, model = picture(67, 83), random_network("iters4").double()
    height, width = (-(-side // scale) for side in image.shape[:2])
    values = image / 255.0
    small = np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            small[i, j] = values[i * scale : (i + 1) * scale, j * scale : (j + 1) * scale].mean((0, 1))
    with torch.no_grad():
        maps = torch.tanh(model(torch.from_numpy(small).permute(2, 0, 1)[None]))
        full = functional.interpolate(maps, scale_factor=scale, mode="bilinear", align_corners=False)[..., :67, :83]
        expected = zdce.reference.apply_curve(torch.from_numpy(values).permute(2, 0, 1)[None], full)
    got = zdce.Enhancer(random_network("iters4"), scale=scale)(image)
    assert np.abs(got - expected[0].permute(1, 2, 0).numpy() * 255).max() < 0.51


@pytest.mark.parametrize("name", ["base", "zero-dce-pp"])
def test_float_tensors_come_back_as_float_tensors(random_network, way, name):
    images = torch.rand(2, 3, 30, 41, generator=torch.Generator().manual_seed(0))
    given = images.clone()
    got = zdce.Enhancer(random_network(name))(images)
    with torch.no_grad():
        wanted = random_network(name).double().enhance(images.double())
    assert got.dtype == torch.float32
    assert (got - wanted).abs().max() < 1e-5
    assert torch.equal(images, given)


def test_other_scales_of_a_network_that_resamples_as_published(random_network, way):
    image, model = picture(67, 83), random_network("zero-dce-pp")
    values = torch.from_numpy(image / 255.0).permute(2, 0, 1)[None]
    with torch.no_grad():
        small = functional.interpolate(values, size=(17, 21), mode="bilinear", align_corners=False)
        maps = functional.interpolate(torch.tanh(model.double()(small)), size=(67, 83), mode="bilinear", align_corners=True)
        wanted = zdce.reference.apply_curve(values, maps, 8)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(zdce.Enhancer(random_network("zero-dce-pp"), scale=4)(image) - wanted).max() < 0.51


def test_strength(random_network):
    image = picture(20, 30) // 4 + 20
    means = [zdce.Enhancer(random_network("base"), strength=s)(image).mean() for s in (-1.0, 0.0, 0.5, 1.0, 3.0)]
    assert np.array_equal(zdce.Enhancer(random_network("base"), strength=0.0)(image), image)
    direction = np.sign(means[3] - means[1])
    assert np.all(np.diff(means) * direction > 0)


def test_memory_layout_and_read_only_arrays_do_not_matter(random_network):
    image = picture(40, 50)
    expected = zdce.Enhancer(random_network("base"))(image[3:30, 10:41].copy())
    view = image[3:30, 10:41]
    view.flags.writeable = False
    assert np.array_equal(zdce.Enhancer(random_network("base"))(view), expected)
    reversed_twice = np.ascontiguousarray(view[::-1, ::-1])[::-1, ::-1]
    assert np.array_equal(zdce.Enhancer(random_network("base"))(reversed_twice), expected)


@pytest.mark.skipif(engine.computed_precision("bf16") != "bf16", reason="the processor has no unit for bfloat16")
def test_bf16_is_close(random_network):
    image = picture(40, 50)
    exact, fast = (zdce.Enhancer(random_network("base"), precision=p)(image).astype(float) for p in ("fp32", "bf16"))
    assert 0 < np.abs(exact - fast).mean() < 2  # 8 bits of mantissa in every product, amplified by 8 steps


@pytest.mark.parametrize(
    ("error", "message", "image"),
    [
        (
            TypeError,
            "image must be a uint8, uint16 or float32 array or a float32 tensor, got int8",
            np.zeros((2, 2, 3), np.int8),
        ),
        (TypeError, "image must be a uint8, uint16 or float32 array or a float32 tensor, got list", [[[1, 2, 3]]]),
        (TypeError, r"image must be a float32 tensor, got torch\.uint8", torch.zeros(1, 3, 2, 2, dtype=torch.uint8)),
        (ValueError, r"image must be \(B, 3, H, W\) .* got \(3, 2, 2\)", torch.zeros(3, 2, 2)),
        (ValueError, r"image must be \(B, 3, H, W\) .* got \(1, 3, 0, 2\)", torch.zeros(1, 3, 0, 2)),
        (ValueError, "image must be finite", torch.full((1, 3, 2, 2), float("nan"))),
        (ValueError, "image must be finite", torch.tensor([0.5, -float("inf")]).expand(1, 3, 1, 2)),
        (
            ValueError,
            r"got values from 0 to 200; divide 8-bit values by 255",
            torch.tensor([0.0, 200]).expand(1, 3, 1, 2),
        ),
        (ValueError, r"in \[0, 1\], got values from 0.5 to 1.02; divide", torch.tensor([0.5, 1.02]).expand(1, 3, 1, 2)),
        (ValueError, r"in \[0, 1\], got values from -0.5 to 0.5; clamp", torch.tensor([-0.5, 0.5]).expand(1, 3, 1, 2)),
        (ValueError, r"in \[0, 1\], got values from 2 to 2; divide", np.full((2, 2, 3), 2, np.float32)),
        (ValueError, "image must be finite", np.full((2, 2, 3), np.nan, np.float32)),
        (ValueError, r"image must be \(H, W, 3\) .* got \(2, 2\)", np.zeros((2, 2), np.uint8)),
        (ValueError, r"image must be \(H, W, 3\) .* got \(2, 2, 4\)", np.zeros((2, 2, 4), np.uint8)),
        (ValueError, r"image must be \(H, W, 3\) .* got \(0, 2, 3\)", np.zeros((0, 2, 3), np.uint8)),
    ],
)
def test_bad_images_are_named(random_network, error, message, image):
    with pytest.raises(error, match=message):
        zdce.Enhancer(random_network("base"))(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp64"}, "precision must be one of fp32, bf16, got 'fp64'"),
        ({"scale": 0}, "scale must be a whole number from 1 to 1048576, got 0"),
        ({"strength": float("nan")}, "strength must be a finite number, got nan"),
    ],
)
def test_bad_options_are_named(random_network, options, message):
    with pytest.raises(ValueError, match=message):
        zdce.Enhancer(random_network("base"), **options)


@pytest.mark.parametrize("name", ["base", "sci"])
@pytest.mark.parametrize(("error", "message", "pictures"), [
    (ValueError, r"pictures must be \(B, H, W, 3\) .* got \(8, 8, 3\)", torch.zeros(8, 8, 3)),
    (ValueError, r"pictures must be \(B, H, W, 3\) .* got \(1, 3, 8, 8\)", torch.zeros(1, 3, 8, 8)),
    (ValueError, r"pictures must be \(B, H, W, 3\) with H and W at least 1, got \(1, 0, 8, 3\)", torch.zeros(1, 0, 8, 3)),
    (TypeError, "pictures must be a uint8, uint16 or float32 tensor, got float64", torch.zeros(1, 8, 8, 3).double()),
    (TypeError, "pictures must be a uint8, uint16 or float32 tensor, got ndarray", np.zeros((1, 8, 8, 3), np.uint8)),
])  # fmt: skip
def test_bad_batches_of_pictures_are_named(name, error, message, pictures):
    with pytest.raises(error, match=message):
        zdce.Enhancer(zdce.DCENet(name)).pictures(pictures)


def test_a_network_is_given_by_name_or_file_too(tmp_path, random_network):
    file = tmp_path / "net.safetensors"
    random_network("base").save(file)
    image = np.full((9, 12, 3), 20, np.uint8)
    expected = zdce.Enhancer(zdce.load(file))(image)
    assert all(np.array_equal(zdce.Enhancer(model)(image), expected) for model in (file, str(file)))
    assert zdce.Enhancer("local").variant.name == "local"
    with pytest.raises(TypeError, match=r"^model must be a network of zdce, its name or its file, got int$"):
        zdce.Enhancer(3)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        zdce.Enhancer("nowhere.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(random_network, value):
    model = random_network("iters4")
    if engine.why_unsupported(model.variant):
        pytest.skip("the core is not built")
    model.convolutions[1].weight.data[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="weights must be finite"):
        zdce.Enhancer(model)(picture(8, 8))


class WithoutUint16(TorchDispatchMode):
    """As on CUDA, where these operators take no uint16."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.index_select, torch.ops.aten.cat):
            tensors = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
            if any(tensor.dtype == torch.uint16 for tensor in tensors):
                raise NotImplementedError(f'"{function}" not implemented for UInt16')
        return function(*args, **(kwargs or {}))


def settings_of(model):
    return PixelSettings(model.variant.scale, 1.0, model.variant.brightness, model.variant.noise)


def test_16_bits_are_moved_by_what_cuda_can_do(monkeypatch):
    monkeypatch.setattr(torch_engine, "_STRIP", 1)  # several strips
    pixels = np.random.default_rng(0).integers(0, 20_000, (50, 40, 3), np.uint16)
    model = zdce.load("adaptive")
    engine = TorchEngine(model, "fp32")
    expected = engine.enhance(pixels, settings_of(model))
    with WithoutUint16():
        np.testing.assert_array_equal(engine.enhance(pixels, settings_of(model)), expected)


@pytest.mark.parametrize("name", ["base", "adaptive", "zero-dce-pp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_gpus_way_gives_the_same_pictures(monkeypatch, random_network, name, dtype):
    # Its network, on the CPU: whole, together where nothing is sought for each, and in tiles where memory ends.
    model = random_network(name)
    batch = torch.from_numpy(np.stack([picture(40, 52, dtype), picture(40, 52, dtype)[::-1].copy()]))
    expected = zdce.Enhancer(model).pictures(batch)
    computed = []
    for most in (2**20, 40 * 52, 500):
        ours = TorchEngine(model, "fp32")
        ours._gpu = GpuNetwork(model, "fp32")
        monkeypatch.setattr(GpuNetwork, "most_pixels", lambda self, most=most: most)
        logits = GpuNetwork.logits

        def counted(self, images, logits=logits):
            computed.append(len(images))
            return logits(self, images)

        with monkeypatch.context() as patch:
            patch.setattr(GpuNetwork, "logits", counted)
            got = ours.enhance_all(batch, settings_of(model))
        assert got.dtype == batch.dtype
        # The edge of two levels, where float32's last bits decide.
        off = (got.to(torch.float32) - expected.to(torch.float32)).abs()
        assert off.max() <= (1 if name != "adaptive" else 40)
        assert (off > 0).float().mean() < 0.01
    if name == "base":
        assert computed[0] == 2  # a batch in one go
        assert computed[1:3] == [1, 1]
        assert len(computed) > 2 + 2 * 4
