"""Networks as they run on GPUs, here on the CPU; tests that need streams and graphs are in tests/gpu."""

import pytest
import torch

import zdce
from zdce.bench.infer import random_network
from zdce.models.gpu_network import DTYPES, GpuNetwork

# Of the largest logit: float32's sums in another order; the half types round every feature map to 8 and 11 bits.
TOLERANCES = {"fp32": 1e-5, "tf32": 1e-5, "bf16": 0.05, "fp16": 0.006}


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", ["base", "no-concat", "zero-dce-pp"])
def test_logits_are_the_networks(name, precision):
    model = random_network(name)
    images = torch.rand(2, 3, 20, 27, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), GpuNetwork(model, precision).logits(images) as logits:
        expected = model.double()(images.double())
    assert logits.dtype == DTYPES[precision]
    error = (logits.double() - expected).abs().max() / expected.abs().max()
    assert error < TOLERANCES[precision]


def test_its_weights_are_a_copy():
    model = zdce.DCENet("iters4")
    network = GpuNetwork(model, "bf16")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.inference_mode(), network.logits(torch.rand(1, 3, 8, 8)) as logits:
        expected = logits.clone()
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert all(parameter.dtype == torch.float32 and parameter.requires_grad for parameter in model.parameters())
    torch.nn.init.zeros_(model.convolutions[-1].bias)
    assert expected.dtype == torch.bfloat16


def test_torchs_setting_for_float32_is_left_as_it_was():
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    seen = []
    network = GpuNetwork(zdce.DCENet("iters4"), "tf32")
    network._model.register_forward_hook(lambda *_: seen.append(convolutions.fp32_precision))
    with torch.inference_mode(), network.logits(torch.rand(1, 3, 8, 8)):
        pass
    exact = GpuNetwork(zdce.DCENet("iters4"), "fp32")
    exact._model.register_forward_hook(lambda *_: seen.append(convolutions.fp32_precision))
    with torch.inference_mode(), exact.logits(torch.rand(1, 3, 8, 8)):
        pass
    assert seen == ["tf32", "ieee"]
    assert convolutions.fp32_precision == before


def test_wider_networks_take_smaller_pictures_whole():
    sizes = [GpuNetwork(zdce.DCENet(name), "bf16").most_pixels() for name in ("base", "filters32", "zero-dce")]
    assert sizes == sorted(sizes, reverse=True)
    assert GpuNetwork(zdce.DCENet("base"), "fp32").most_pixels() < sizes[0]


@pytest.mark.parametrize(("precision", "planes"), [("fp32", True), ("tf32", False), ("bf16", False), ("fp16", False)])
def test_tensor_cores_read_channels_last_and_true_float32_planes(precision, planes):
    network, seen = GpuNetwork(zdce.DCENet("iters4"), precision), []
    first = network._model.convolutions[0]
    first.register_forward_hook(lambda module, inputs, _: seen.extend([module.weight, *inputs]))
    for image in (torch.rand(2, 3, 8, 9), torch.rand(2, 8, 9, 3).movedim(-1, 1)):
        with torch.inference_mode(), network.logits(image):
            pass
    assert len(seen) == 4
    assert all(tensor.is_contiguous() == planes for tensor in seen)
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) != planes for tensor in seen)
