"""The kernel for a whole network on a GPU's tensor cores, emulated on host threads (tests/ops/cuda_on_host.h)."""

from dataclasses import replace
from pathlib import Path

import cuda_on_host
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import zdce
from cases import nan_filled_allocations
from zdce.bench import gpus, network_costs
from zdce.bench.infer import random_network
from zdce.models import fused_network
from zdce.models.engine import network_plan
from zdce.models.fused_network import FusedNetwork
from zdce.models.variants import VARIANTS

DARK = Path(__file__).resolve().parents[2] / "docs" / "dark.jpg"

# Shared memory for blocks of two strips of columns, the least: emulated, what a block does takes a second.
SMALL = {"shared_a_block": 60_000, "shared_a_processor": 61_000}

# Of 32 filters.
LARGE = {"shared_a_block": 110_000, "shared_a_processor": 111_000}


@pytest.fixture
def on_host(monkeypatch):
    """Lets the kernel run on host threads, as on a GPU of the limits that are given to what is returned."""
    if reason := zdce.ops.dispatch.why_missing("cuda_on_host"):
        pytest.skip(reason)

    def choose(**gpu):
        monkeypatch.setattr(fused_network, "run_network", cuda_on_host.network_runner(**gpu))

    choose(**SMALL)
    return choose


def rounded_maps(network, images, dtype):
    """Curve maps (B, C, H, W) of ``images`` (B, 3, H, W) in float64, but for weights and feature maps of the half type."""
    white = images.double() * 255
    first = white.to(dtype).double()
    outputs = [first + (white - first).to(dtype).double()]  # the image is two numbers of that type
    layers = list(network.convolutions)
    for number, (sources, convolution) in enumerate(zip(network.variant.sources, layers, strict=True)):
        depthwise, layer = getattr(convolution, "depthwise", None), getattr(convolution, "pointwise", convolution)
        inputs, white = torch.cat([outputs[s] for s in sources], 1), 255 if number == 0 else 1
        if depthwise is not None:  # whose filters are not rounded
            filters = depthwise.weight.double() / white
            inputs = functional.conv2d(inputs, filters, depthwise.bias.double(), padding=1, groups=inputs.shape[1])
            values = functional.conv2d(inputs.to(dtype).double(), layer.weight.to(dtype).double(), layer.bias.double())
        else:
            weight = (layer.weight / white).to(dtype).double()
            values = functional.conv2d(inputs, weight, layer.bias.double(), padding=1)
        outputs.append(values if number + 1 == len(layers) else values.relu().to(dtype).double())
    return torch.tanh(outputs[-1])


def named(name):
    """The network of that name with random weights and biases; "narrow" has separable layers of 16 filters, and 24 maps."""
    network = random_network(replace(VARIANTS["base"], name=name, separable=True) if name == "narrow" else name)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, -0.2, 0.2)
    return network


def images_of(size, batch=1):
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))


# Sums in float32 differ from float64's by 2^-22 of the largest term, so that a feature map on the edge of two of the type's
# values may fall to the other one: 2^-8 (bfloat16) or 2^-11 of it. What became of few of them lies below four such steps.
TOLERANCE = {torch.bfloat16: 4 * 2**-8, torch.float16: 4 * 2**-11}


@pytest.mark.parametrize(
    ("name", "size", "dtype"),
    [
        ("base", (9, 25), torch.bfloat16),
        ("base", (1, 1), torch.float16),
        ("iters4", (4, 21), torch.bfloat16),
        ("no-concat", (5, 7), torch.bfloat16),
        ("local", (13, 6), torch.float16),
        ("filters32", (6, 19), torch.bfloat16),
        ("zero-dce", (5, 20), torch.bfloat16),
        ("zero-dce-pp", (5, 20), torch.bfloat16),
        ("zero-dce-pp", (9, 7), torch.float16),
        ("zero-dce-pp", (1, 1), torch.float16),
        ("narrow", (6, 31), torch.float16),
    ],
)
@torch.inference_mode()
def test_maps_are_those_of_rounded_feature_maps(on_host, name, size, dtype):
    network, images = named(name), images_of(size)
    on_host(**(LARGE if network.variant.filters == 32 else SMALL))
    with nan_filled_allocations():
        maps = FusedNetwork(network, dtype).maps(images)
    expected = rounded_maps(network, images, dtype)
    assert (maps - expected).abs().max() < TOLERANCE[dtype]


@torch.inference_mode()
def test_blocks_meet_without_a_seam(on_host):
    # 2 x 2 blocks: strips of 20 columns, and processors for more than one division of the height.
    on_host(processors=1000, **SMALL)
    network, images = random_network("base"), images_of((36, 25))
    maps = FusedNetwork(network, torch.bfloat16).maps(images)
    on_host(processors=1, **SMALL)
    assert torch.equal(maps, FusedNetwork(network, torch.bfloat16).maps(images))
    assert (maps - rounded_maps(network, images, torch.bfloat16)).abs().max() < TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@torch.inference_mode()
def test_pictures_of_a_batch_with_rows_apart(on_host, dtype):
    network = zdce.load("base").eval()
    white = {torch.uint8: 255, torch.uint16: 65535, torch.float32: 1.0}[dtype]
    dark = 0.3 * images_of((10, 23), batch=2).permute(0, 2, 3, 1)
    pictures = (dark * white).to(dtype)[:, :, 2:]  # 21 of 23 pixels of each row
    assert not pictures.is_contiguous()
    with nan_filled_allocations():
        enhanced = FusedNetwork(network, torch.bfloat16).enhanced(pictures, 0.7)
    assert enhanced.dtype == dtype
    images = (pictures.double() / white).permute(0, 3, 1, 2)
    expected = zdce.reference.apply_curve(images, 0.7 * torch.tanh(network.double()(images)))
    error = enhanced.permute(0, 3, 1, 2).double() / white - expected
    assert 10 * torch.log10(1 / error.square().mean()) >= 55


@torch.inference_mode()
def test_each_picture_of_a_batch_has_its_own_strength(on_host):
    network = FusedNetwork(zdce.load("base").eval(), torch.bfloat16)
    pictures = (60 * images_of((6, 17), batch=3).permute(0, 2, 3, 1)).to(torch.uint8)
    strengths = [0.0, 0.6, 1.5]
    together = network.enhanced(pictures, torch.tensor(strengths))
    assert torch.equal(together[0], pictures[0])
    for picture, enhanced, strength in zip(pictures, together, strengths, strict=True):
        assert torch.equal(enhanced, network.enhanced(picture[None], strength)[0])


@torch.inference_mode()
def test_a_photograph_at_full_width(on_host):
    on_host()  # an H100's memory: strips of 96 columns
    network = zdce.load("base").eval()
    with Image.open(DARK) as photograph:
        pixels = np.asarray(photograph.convert("RGB"))[200:210, 150:310].copy()
    enhanced = FusedNetwork(network, torch.bfloat16).enhanced(torch.from_numpy(pixels)[None], 1.0)[0]
    error = (enhanced.double() - torch.from_numpy(zdce.enhance(pixels, "base")).double()) / 255
    assert 10 * torch.log10(1 / error.square().mean()) >= 55


@pytest.mark.parametrize("name", ["base", "zero-dce-pp"])
@torch.inference_mode()
def test_numbers_that_are_none_stay_where_they_reach(on_host, name):
    on_host(**(LARGE if VARIANTS[name].filters == 32 else SMALL))
    network, images = random_network(name), images_of((6, 30))
    spoiled = images.clone()
    spoiled[0, 1, 2, 9] = float("nan")
    one, other = (FusedNetwork(network, torch.bfloat16).maps(image) for image in (images, spoiled))
    reach = network.variant.receptive_field // 2
    assert torch.equal(one[..., 9 + reach + 1 :], other[..., 9 + reach + 1 :])
    assert torch.equal(one[..., : 9 - reach], other[..., : 9 - reach])


def test_only_what_the_kernel_has_code_for_is_taken():
    taken = {name for name, variant in VARIANTS.items() if fused_network.takes(variant)}
    assert taken == set(VARIANTS) - {"sci"}
    assert not fused_network.takes(replace(VARIANTS["base"], iterations=1, formula="illumination"))
    assert fused_network.fused(random_network("base"), torch.bfloat16) is None  # on the CPU


# Multiprocessors and bytes of shared memory, of a block and of a multiprocessor.
GPUS = {"A100": (108, 163 << 10, 164 << 10), "H100": (132, 227 << 10, 228 << 10), "B200": (148, 227 << 10, 228 << 10)}

# Most registers of a thread with which so many warps run on a multiprocessor at a time, a quarter of them from each quarter
# of its 65,536 registers, which warps get in units of 256: the compiler keeps to them (tests/ops/test_cuda_kernels.py).
WARPS = {3: 12, 4: 8}


@pytest.mark.parametrize("eight_bits", [True, False])
@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"sci"}))
def test_blocks_fit_a_processor_together(name, gpu, eight_bits):
    if reason := zdce.ops.dispatch.why_missing("cuda_on_host"):
        pytest.skip(reason)
    _, a_block, a_processor = GPUS[gpu]
    layout = cuda_on_host.network_layout(network_plan(VARIANTS[name], "fp32"), eight_bits, GPUS[gpu])
    assert layout.strips * layout.together <= WARPS[layout.tiles]
    assert layout.shared_bytes <= a_block
    assert layout.together * (layout.shared_bytes + 1024) <= a_processor
    assert layout.results > layout.columns / 2
    if gpu != "A100" and VARIANTS[name].filters == 16 and name != "layers7":
        assert layout.strips * layout.together == 12
        if eight_bits:  # 196 of 256 KB leave a cache that holds 34 KB of weights
            assert layout.together * (layout.shared_bytes + 1024) <= 196 << 10


@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840)])
@pytest.mark.parametrize("gpu", ["A100", "H100"])
@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"sci"}))
def test_costs_are_predicted_for_the_kernels_own_blocks(name, gpu, size):
    if reason := zdce.ops.dispatch.why_missing("cuda_on_host"):
        pytest.skip(reason)
    layout = cuda_on_host.network_layout(network_plan(VARIANTS[name], "fp32"), True, GPUS[gpu], size)
    of = next(of for of in gpus.GPUS.values() if of.name == gpu)
    cost = network_costs.cost(VARIANTS[name], of, size)
    assert cost.layout == network_costs.Layout(layout.strips, layout.results, layout.together, layout.rows)
    layers = network_costs.layers_of(VARIANTS[name])
    assert network_costs.shared_bytes(layers, VARIANTS[name].filters, layout.strips) == layout.shared_bytes
    # 4,096 operations a product; the first layer's fourth pixel or other inputs and the last tile's missing maps are idle.
    products, variant = sum(layer.products for layer in layers), VARIANTS[name]
    macs = sum(given * made for given, made in variant.convolutions()) if variant.separable else variant.macs
    assert 1 <= products * 4096 / 64 / (2 * macs) < 1.3
    # The first layer's block of 16 channels has three colours.
    channels = 16 * sum(layer.filtered for layer in layers) - (13 if variant.separable else 0)
    assert 9 * channels == variant.macs - macs
    assert (cost.filters > 0) == variant.separable


@pytest.mark.parametrize("name", ["base", "zero-dce-pp"])
@torch.inference_mode()
def test_matrices_are_loaded_from_all_banks(on_host, name):
    on_host(**(LARGE if VARIANTS[name].filters == 32 else SMALL))
    before = cuda_on_host.bank_conflicts()
    FusedNetwork(random_network(name), torch.bfloat16).maps(images_of((5, 40)))
    assert cuda_on_host.bank_conflicts() == before


def test_a_network_that_does_not_fit_is_refused(on_host, capfd):
    on_host(shared_a_block=10_000, shared_a_processor=11_000)
    with pytest.raises(RuntimeError, match="does not run the network"):
        FusedNetwork(random_network("base"), torch.bfloat16).maps(images_of((5, 5)))
    assert "the network's rows don't fit into the GPU's shared memory" in capfd.readouterr().err
