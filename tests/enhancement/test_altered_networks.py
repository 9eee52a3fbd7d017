"""Networks whose parameters are not those of their variant: pruned, parametrized, of other types, with other layers."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, prune, spectral_norm

import zdce
from zdce.bench.infer import random_network
from zdce.convert import exporting
from zdce.models import engine, network
from zdce.models.fused_network import FusedNetwork
from zdce.models.gpu_network import GpuNetwork

IMAGE = torch.rand(1, 3, 24, 31, generator=torch.Generator().manual_seed(0)) / 3

# Of the engine's sums of float32 in another order, after a curve of slope up to 8.
TOLERANCE = 1e-4


def _pruned(model):
    prune.identity(model.convolutions[1], "weight")
    prune.l1_unstructured(model.convolutions[0], "bias", amount=0.5)
    prune.random_unstructured(model.convolutions[2], "weight", amount=0.5)
    with torch.no_grad():  # as a step of training does, after which the masked weights are stale until forward
        model.convolutions[2].weight_orig.mul_(1.5)


class _Half(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t, default_mask):
        return default_mask * (torch.arange(t.numel()).view_as(t) % 2)


def _pruned_by_an_own_method(model):
    _Half.apply(model.convolutions[2], "weight")
    with torch.no_grad():
        model.convolutions[2].weight_orig.mul_(1.5)


def _without_bias(model):
    model.convolutions[1].bias = None


def _frozen_order(model):
    """The weight behind the bias among the parameters."""
    layer = model.convolutions[1]
    weight = layer.weight
    del layer.weight
    layer.weight = weight


WEIGHTS = {
    "pruned": _pruned,
    "pruned by an own method": _pruned_by_an_own_method,
    "spectral norm": lambda model: parametrizations.spectral_norm(model.convolutions[0]),
    "weight norm": lambda model: parametrizations.weight_norm(model.convolutions[3]),
    "spectral norm by a hook": lambda model: spectral_norm(model.convolutions[0]),
    "no bias": _without_bias,
    "another order": _frozen_order,
}


class _Brighter(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *sources):
        return self.layer(*sources) * 0.5


def _replaced(model):
    model.convolutions[1] = _Brighter(model.convolutions[1])


def _hooked(model):
    model.convolutions[1].register_forward_hook(lambda layer, inputs, output: 0.5 * output)


def _hooked_before(model):
    model.convolutions[0].register_forward_pre_hook(lambda layer, inputs: tuple(0.5 * x for x in inputs))


def _overridden(model):
    forward = model.forward
    model.forward = lambda image: 0.5 * forward(image)


def _unrectified(model):
    model.convolutions[1].rectified = False


COMPUTATIONS = {
    "replaced": _replaced, "hook": _hooked, "hook before": _hooked_before, "forward": _overridden,
    "not rectified": _unrectified,
}  # fmt: skip


def made(change, name="base"):
    model = random_network(name)
    model.train()
    change(model)
    return model.eval()


@pytest.mark.parametrize("kind", [*WEIGHTS, *COMPUTATIONS])
def test_enhancing_uses_what_forward_uses(kind):
    model = made({**WEIGHTS, **COMPUTATIONS}[kind])
    got = [zdce.Enhancer(model)(IMAGE), zdce.enhance(IMAGE, model), zdce.transforms.Enhance(model)(IMAGE)]
    with torch.no_grad():
        expected = model.enhance(IMAGE)
    for each in got:
        assert (each - expected).abs().max() < TOLERANCE
    if engine.why_unsupported(model.variant) is None:
        assert (zdce.Enhancer(model)._engine is not None) == (kind in WEIGHTS)


def test_separable_layers_too():
    model = random_network("zero-dce-pp").eval()
    prune.identity(model.convolutions[1].depthwise, "weight")
    parametrizations.weight_norm(model.convolutions[2].pointwise)
    with torch.no_grad():
        assert (zdce.Enhancer(model)(IMAGE) - model.enhance(IMAGE)).abs().max() < TOLERANCE
    model.convolutions[1].depthwise.register_forward_hook(lambda layer, inputs, output: 0.5 * output)
    with torch.no_grad():
        assert (zdce.Enhancer(model)(IMAGE) - model.enhance(IMAGE)).abs().max() < TOLERANCE


def test_a_compiled_network_runs_in_the_engine():
    model = random_network("base").eval()
    if reason := engine.why_unsupported(model.variant):
        pytest.skip(reason)
    assert zdce.Enhancer(torch.compile(model))._engine is not None


def test_reading_weights_in_training_leaves_them(tmp_path):
    model = random_network("base").train()
    parametrizations.spectral_norm(model.convolutions[0])
    before = copy.deepcopy(model.state_dict())
    model.save(tmp_path / "net.safetensors")
    zdce.Enhancer(copy.deepcopy(model))
    network.to_stored(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.convolutions[0].training


@pytest.mark.parametrize("kind", WEIGHTS)
def test_files_hold_the_weights_that_forward_uses(tmp_path, kind):
    model = made(WEIGHTS[kind])
    model.save(tmp_path / "net.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(zdce.load(tmp_path / "net.safetensors")(IMAGE), model(IMAGE), rtol=0, atol=1e-6)


def test_a_network_that_no_file_holds_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^convolutions\.1\.weight must be a tensor of shape \(16, .*, got _Brighter$"):
        made(_replaced).save(tmp_path / "net.safetensors")
    model = zdce.DCENet("base")
    model.convolutions = model.convolutions[:2]
    with pytest.raises(ValueError, match=r"^the network must have a layer convolutions\.2: "):
        model.save(tmp_path / "net.safetensors")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", WEIGHTS)
def test_gpus_and_exports_get_the_weights_that_forward_uses(kind):
    model = made(WEIGHTS[kind])
    with torch.inference_mode(), GpuNetwork(model, "fp32").logits(IMAGE) as logits:
        torch.testing.assert_close(logits, model(IMAGE), rtol=0, atol=1e-5)
    plain = network.of_stored(network.to_stored(model))
    for precision in (torch.bfloat16, torch.float16):
        ours, expected = (FusedNetwork(each, precision) for each in (model, plain))
        assert torch.equal(ours.weights, expected.weights)
        assert torch.equal(ours.biases, expected.biases)
    exported = exporting._ExportedNetwork(model, exporting.ExportOptions())
    with torch.no_grad():
        torch.testing.assert_close(exported(IMAGE), model.enhance(IMAGE), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", COMPUTATIONS)
def test_a_gpu_computes_what_an_altered_network_does(kind):
    model = made(COMPUTATIONS[kind])
    with torch.inference_mode(), GpuNetwork(model, "fp32").logits(IMAGE) as logits:
        torch.testing.assert_close(logits, model(IMAGE), rtol=0, atol=1e-5)


# Of the picture, after the rounding of every feature map to 53, 11 and 8 bits.
ROUNDED = {torch.float64: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.1}


@pytest.mark.parametrize("dtype", ROUNDED, ids=str)
@pytest.mark.parametrize("name", ["base", "local", "zero-dce-pp", "adaptive"])
def test_networks_of_other_types(name, dtype):
    model = zdce.load(name)
    expected = zdce.Enhancer(model)(IMAGE)
    other = copy.deepcopy(model).to(dtype)
    for got in (zdce.Enhancer(other)(IMAGE), zdce.enhance(IMAGE, other)):
        assert got.dtype == torch.float32
        assert (got - expected).abs().max() < ROUNDED[dtype]
    assert zdce.Enhancer(other, precision="bf16")(np.zeros((9, 7, 3), np.uint16)).dtype == np.uint16
