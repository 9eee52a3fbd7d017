"""Enhancing on a GPU gives the CPU engine's pictures, in every type of pixel and precision."""

import copy

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zdce
from zdce import cli
from zdce.bench.infer import random_network
from zdce.io import images
from zdce.models.gpu_network import GpuNetwork
from zdce.models.variants import VARIANTS
from zdce.models.weights import names
from zdce.settings import PRECISIONS

# Of the difference's root mean square, in parts of full scale: 0.45 levels of 255, in which rounding to 8 bits alone is 0.29.
LEAST_PSNR = 55.0

# Two engines, each within 1e-5 of float64.
FLOAT32 = 2e-5

SIZES = [(97, 131), (64, 256)]


def picture(size, dtype, seed=0):
    """Dark, smooth and a little noisy, (H, W, 3)."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 80, (6, 8, 3), np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
    values = np.clip(np.asarray(coarse) / 255 + random.normal(0, 0.004, (*size, 3)), 0, 1)
    if dtype == np.float32:
        return values.astype(np.float32)
    return (values * np.iinfo(dtype).max).round().astype(dtype)


def psnr(one, other):
    white = np.iinfo(one.dtype).max if np.issubdtype(one.dtype, np.integer) else 1.0
    error = np.mean(((one.astype(np.float64) - other) / white) ** 2)
    return float("inf") if error == 0 else -10 * np.log10(error)


def enhanced(model, pixels, precision):
    if pixels.dtype == np.float32:
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        return zdce.Enhancer(model, precision=precision)(tensor)[0].permute(1, 2, 0).numpy()
    return zdce.Enhancer(model, precision=precision)(pixels)


def network(name):
    return zdce.load(name) if name in names() else random_network(name)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", VARIANTS)
def test_float32_is_the_cpus(gpu, name, dtype, size):
    model, pixels = network(name), picture(size, dtype)
    expected = enhanced(model, pixels, "fp32")
    got = enhanced(copy.deepcopy(model).to(gpu), pixels, "fp32")
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if dtype == np.float32 and model.variant.noise == 0:
        np.testing.assert_allclose(got, expected, rtol=0, atol=FLOAT32)
    else:  # a value on the edge of two levels falls to either side; denoising compares such levels
        assert psnr(got, expected) >= LEAST_PSNR


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p != "fp32"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", names())
def test_other_precisions_are_near_it(gpu, name, dtype, precision):
    model, pixels = network(name), picture(SIZES[0], dtype)
    got = enhanced(copy.deepcopy(model).to(gpu), pixels, precision)
    assert psnr(got, enhanced(model, pixels, "fp32")) >= LEAST_PSNR


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"sci"}))
def test_networks_are_one_kernel_and_give_what_their_layers_give(streams, name, precision):
    if zdce.ops.dispatch.why_missing("cuda", "cuda"):
        pytest.skip("the CUDA extension is not built, or not for this GPU")
    model = random_network(name).to(streams)
    network = GpuNetwork(model, precision)
    if network.fused is None:
        assert model.variant.filters > 16  # which take more shared memory than some GPUs have
        pytest.skip("the network's rows don't fit into this GPU's shared memory")
    for size in [(1, 1), (97, 131), (64, 256), (300, 20)]:
        images = torch.stack([torch.from_numpy(picture(size, np.float32, seed)).permute(2, 0, 1) for seed in range(2)])
        maps = network.fused.maps(images.to(streams))
        with network.logits(images.to(streams)) as logits:
            layers = torch.tanh(logits.float())
        truth = torch.tanh(random_network(name).double()(images.double())).detach()
        own, others = ((found.cpu() - truth).square().mean().sqrt() for found in (maps, layers))
        assert own <= 1.5 * others + 1e-3  # tanh's approximation is within 2^-11


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_one_kernel_enhances_a_batch(streams, dtype):
    if zdce.ops.dispatch.why_missing("cuda", "cuda"):
        pytest.skip("the CUDA extension is not built, or not for this GPU")
    model = zdce.load("base").to(streams)
    pictures = np.stack([picture((70, 131), dtype, seed) for seed in range(3)])
    results = GpuNetwork(model, "bf16").fused.enhanced(torch.from_numpy(pictures).to(streams), 1.0).cpu().numpy()
    for got, pixels in zip(results, pictures, strict=True):
        assert psnr(got, enhanced(zdce.load("base"), pixels, "fp32")) >= LEAST_PSNR


@pytest.mark.parametrize("scale", [1, 4])
def test_maps_and_apply_are_the_whole_call(gpu, scale):
    model, pixels = zdce.load("base").to(gpu), picture(SIZES[0], np.uint8)
    enhancer = zdce.Enhancer(model, scale=scale)
    np.testing.assert_array_equal(enhancer.apply(pixels, enhancer.maps(pixels)), enhancer(pixels))


@pytest.mark.parametrize("name", ["adaptive", "local"])
def test_one_picture_after_another_of_many_sizes(gpu, name):
    model = zdce.load(name).to(gpu)
    enhancer = zdce.Enhancer(model)
    for seed, size in enumerate([(40, 56), (40, 56), (41, 57), (1, 30), (30, 1), (40, 56), (300, 20)]):
        pixels = picture(size, np.uint8, seed)
        assert psnr(enhancer(pixels), zdce.Enhancer(zdce.load(name))(pixels)) >= LEAST_PSNR


def test_a_graph_fits_the_maps_of_each_scene_as_its_kernels_do(streams):
    sizes, settings = [(60, 90), (61, 90), (200, 300)], [{}, {"shadows": 0.5, "highlights": 0.2}, {"brightness": 0.3}]
    model = zdce.load("local").to(streams)
    enhancers = [zdce.Enhancer(model, noise=0.0, **chosen) for chosen in settings]
    for seed in range(4):  # kernels, capture, and replays
        for size in sizes:
            pixels = torch.from_numpy(picture(size, np.uint8, seed)).to(streams)[None] // (seed + 1)
            for enhancer, chosen in zip(enhancers, settings, strict=True):
                first = zdce.Enhancer(model, noise=0.0, **chosen).pictures(pixels)  # which has no graph yet
                # Scans add up in any order, so that a strength may differ in its last bit and a value in its rounding.
                gaps = (enhancer.pictures(pixels).int() - first.int()).abs()
                assert gaps.max() <= 1
                assert gaps.float().mean() < 0.01


def test_a_batch_is_its_pictures_one_by_one(gpu):
    enhancer = zdce.Enhancer(zdce.load("base").to(gpu))
    batch = torch.stack([torch.from_numpy(picture(SIZES[0], np.float32, seed)).permute(2, 0, 1) for seed in range(3)])
    together = enhancer(batch)
    for one, alone in zip(together, batch, strict=True):
        torch.testing.assert_close(one, enhancer(alone[None])[0], rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_the_command_writes_the_cpus_files(gpu, tmp_path, suffix):
    dtype = np.uint8 if suffix == ".png" else np.uint16
    source = tmp_path / f"photo{suffix}"
    if dtype == np.uint16:
        pytest.importorskip("imagecodecs")
        pytest.importorskip("tifffile").imwrite(source, picture((50, 70), dtype), photometric="rgb")
    else:
        Image.fromarray(picture((50, 70), dtype)).save(source)
    results = []
    for device in ("cpu", gpu.type):
        target = tmp_path / f"{device}-{len(results)}{suffix}"
        done = CliRunner().invoke(cli.main, ["enhance", str(source), "--device", device, "-o", str(target)])
        assert done.exit_code == 0, done.output
        results.append(images.read(target).pixels)
    assert results[0].dtype == dtype
    assert psnr(*results) >= LEAST_PSNR
