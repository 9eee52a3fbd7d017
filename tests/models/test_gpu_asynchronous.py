"""Enhancing on a GPU never makes the host wait: the same path with tensors that have a size but no values."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import zdce
from zdce.models import fused_network
from zdce.models.engine import PixelSettings
from zdce.models.fused_network import FusedNetwork
from zdce.models.gpu_network import GpuNetwork
from zdce.models.torch_engine import TorchEngine
from zdce.models.variants import VARIANTS

# Stands for the GPU: what waits for values there fails here, since there are none.
GPU = torch.device("meta")


class CopiedError(AssertionError):
    """Something is copied to the GPU or from it."""


class Started(TorchDispatchMode):
    """Records operations, views apart, and raises ``CopiedError``."""

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        results = operator(*arguments, **(keywords or {}))
        given, made = (
            {leaf.device for leaf in tree_leaves(part) if isinstance(leaf, torch.Tensor)}
            for part in ((arguments, keywords), results)
        )
        if len(given | made) > 1:
            raise CopiedError(f"{operator} from {given} to {made}")
        if not operator.is_view:
            self.operators.append(operator)
        return results


def engine(name, fused):
    """An engine whose network of that name has its weights on the GPU."""
    model = zdce.DCENet(name).eval()
    made = TorchEngine(model, "bf16")
    made._gpu = GpuNetwork(model, "bf16")
    made._gpu._model.to(GPU)
    if fused:
        made._fused = FusedNetwork(model, torch.bfloat16)
    return made


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize(("name", "scale"), [("base", 1), ("adaptive", 1), ("adaptive", 4), ("local", 6)])
def test_nothing_waits_while_pictures_are_enhanced(monkeypatch, name, scale, measured, fused, dtype):
    strengths = []
    monkeypatch.setattr(fused_network, "run_network", lambda *arguments: strengths.append(arguments[5]))
    monkeypatch.setattr(GpuNetwork, "most_pixels", lambda _: 2**26)
    made, pictures, variant = engine(name, fused), torch.empty(2, 90, 120, 3, dtype=dtype, device=GPU), VARIANTS[name]
    for owner, make in ((torch.Tensor, "new_tensor"), (torch, "tensor")):  # of the host's numbers, copied inside
        monkeypatch.setattr(owner, make, None)
    settings = PixelSettings(
        scale=scale, strength=0.8, brightness=variant.brightness, noise=None if measured else variant.noise
    )
    with zdce.backend("triton"), torch.inference_mode(), Started() as work:
        results = made.enhance_all(pictures, settings)
    assert (results.shape, results.dtype, results.device) == (pictures.shape, dtype, GPU)
    measurements = [operator for operator in work.operators if operator.name() == "zdce::picture_noise"]
    assert len(measurements) == 2 * (measured and variant.noise > 0)
    searches = [operator.name() for operator in work.operators if "strength" in operator.name()]
    whole = name == "adaptive" and scale == 1
    kernel = {"base": [], "adaptive": ["zdce::scene_strength"], "local": ["zdce::guided_strength"]}[name]
    assert searches == kernel * (1 if whole else 2)
    if fused and whole:  # the thumbnails of both pictures together, then both pictures with their own strengths
        assert [None if each is None else each.shape for each in strengths] == [None, (2,)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["base", "adaptive"])
def test_no_pictures_are_none(monkeypatch, name, fused):
    monkeypatch.setattr(GpuNetwork, "most_pixels", lambda _: 2**26)
    settings = PixelSettings(brightness=VARIANTS[name].brightness)
    with zdce.backend("triton"):
        assert engine(name, fused).enhance_all(torch.empty(0, 9, 12, 3, device=GPU), settings).shape == (0, 9, 12, 3)


@pytest.mark.parametrize(
    ("error", "work"),
    [
        (RuntimeError, lambda there: there.item()),
        (RuntimeError, lambda there: there.any().item()),
        (NotImplementedError, lambda there: there.cpu()),
        (CopiedError, lambda there: torch.ones(1).to(there.device)),
    ],
)
def test_what_waits_is_seen(error, work):
    there = torch.empty(1, device=GPU)
    with pytest.raises(error), Started():
        work(there)
