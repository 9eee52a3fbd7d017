"""SCI's formula, which divides the picture by its illumination: in training, in enhancing and in files."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

import zdce
from zdce.data import datasets
from zdce.errors import InputError
from zdce.models import illumination
from zdce.models.engine import PixelSettings
from zdce.models.torch_engine import TorchEngine
from zdce.models.variants import VARIANTS, Variant
from zdce.training.config import Config
from zdce.training.learner import Learner


def random_network(seed=0):
    """An untrained network with an illumination well below 1."""
    torch.manual_seed(seed)
    model = zdce.DCENet("sci").eval()
    torch.nn.init.constant_(model.convolutions[-1].bias, -0.8)
    return model


def picture(height, width, dtype=np.uint8):
    white = np.iinfo(dtype).max
    return np.random.default_rng(height).integers(0, white // 4, (height, width, 3)).astype(dtype)


def as_images(pixels):
    return torch.from_numpy(pixels / np.iinfo(pixels.dtype).max).permute(2, 0, 1)[None]


def published(model, image):
    """The paper's: features, a residual block, a sigmoid that is added to the image, and the quotient."""
    first, inner, last = model.convolutions
    weights = [(layer.weight.double(), layer.bias.double()) for layer in (first, inner)]
    features = functional.relu(functional.conv2d(image, *weights[0], padding=1))
    block = functional.relu(functional.conv2d(features, *weights[1], padding=1))
    outer = functional.conv2d(torch.cat([features, block], 1), last.weight.double(), last.bias.double(), padding=1)
    return (image / (torch.sigmoid(2 * outer) + image).clamp(1e-4, 1)).clamp(0, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (37, 53)])
def test_pictures_are_divided_by_their_illumination(dtype, size):
    model, pixels = random_network(), picture(*size, dtype)
    white = np.iinfo(dtype).max
    with torch.no_grad():
        wanted = published(model, as_images(pixels))[0].permute(1, 2, 0).numpy() * white
        floats = zdce.Enhancer(model)(as_images(pixels).float())[0].permute(1, 2, 0).numpy() * white
    got = zdce.Enhancer(model)(pixels)
    assert got.dtype == dtype
    # A half of rounding, and float32's seven digits of 65535 levels.
    assert np.abs(got - wanted).max() < 0.51 + white * 1e-6
    assert np.abs(floats - wanted).max() < white * 1e-6
    assert got.mean() > 1.5 * pixels.mean()


def test_strength_goes_from_the_picture_to_more_than_trained():
    image, estimate = torch.rand(1, 3, 9, 8) * 0.05, torch.full((1, 3, 9, 8), -0.2)
    assert torch.equal(illumination.divided(image, estimate, 0), image)
    results = [illumination.divided(image, estimate, strength) for strength in (-1, 0, 0.5, 1, 1.5, 100)]
    for darker, brighter in itertools.pairwise(results):
        assert (brighter >= darker).all()
        assert brighter.mean() > darker.mean()
    assert all(result.aminmax().min >= 0 and result.aminmax().max <= 1 for result in results)
    model, pixels = random_network(), picture(20, 30)
    assert np.array_equal(zdce.Enhancer(model, strength=0)(pixels), pixels)
    assert zdce.Enhancer(model, strength=0.5)(pixels).mean() < zdce.Enhancer(model)(pixels).mean()


@pytest.mark.parametrize("scale", [1, 4])
def test_maps_applied_are_a_call_at_that_scale(scale):
    pixels, enhancer = picture(21, 35), zdce.Enhancer(random_network(), scale=scale)
    maps = enhancer.maps(pixels)
    assert maps.shape == (1, 3, -(-21 // scale), -(-35 // scale))
    assert np.array_equal(enhancer.apply(pixels, maps), enhancer(pixels))


def test_tiles_are_exact(monkeypatch):
    monkeypatch.setattr("zdce.models.torch_engine._TILE", 24)
    model, pixels = random_network(), picture(67, 83)
    with torch.no_grad():
        wanted = published(model, as_images(pixels))[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(TorchEngine(model, "fp32").enhance(pixels, PixelSettings()) - wanted).max() < 0.51


def test_a_scene_has_no_strength_that_could_be_sought():
    with pytest.raises(InputError, match=r"^brightness needs a network of curves, such as base, got 0\.3 for sci$"):
        zdce.Enhancer(random_network(), brightness=0.3)


@pytest.mark.parametrize(("changes", "message"), [
    ({"formula": "gamma"}, "formula must be one of curve, illumination, got 'gamma'"),
    ({"iterations": 2}, "'sci' must have 1 iteration, no brightness and no guided maps"),
    ({"brightness": 0.3}, "'sci' must have 1 iteration, no brightness and no guided maps"),
    ({"guided": True}, "'sci' must have 1 iteration, no brightness and no guided maps"),
])  # fmt: skip
def test_descriptions_that_make_no_network_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(VARIANTS["sci"], **changes)


def test_a_formula_is_told_where_it_is_not_the_curve():
    assert "formula" not in VARIANTS["base"].to_dict()
    for name in ("base", "sci"):
        assert Variant.from_dict(json.loads(json.dumps(VARIANTS[name].to_dict()))) == VARIANTS[name]


def test_the_core_alone_refuses_what_it_would_take_for_a_curve(tmp_path):
    core = pytest.importorskip("zdce._core")
    random_network().save(tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="formula must be curve"):
        core.read_network((tmp_path / "net.safetensors").read_bytes(), False)


def test_training_takes_the_reports_objective_of_the_quotient():
    learner = Learner(Config(variant="sci", data=datasets.SAMPLE, batch_size=2, size=32, lr=1e-2))
    batch = torch.randint(0, 60, (2, 3, 32, 32), dtype=torch.uint8)
    image = batch.double() / 255
    with torch.no_grad():
        estimates = torch.tanh(learner.model(image.float())).double()
        enhanced = illumination.divided(image, estimates)
    terms = (
        zdce.reference.illumination_smoothness(estimates),
        zdce.reference.spatial_consistency(enhanced, image),
        zdce.reference.color_constancy(enhanced),
        zdce.reference.exposure_control(enhanced),
    )
    total = sum(weight * term for weight, term in zip(learner.config.weights, terms, strict=True))
    first = learner.step(batch)
    assert first == pytest.approx([float(value) for value in (total, *terms)], rel=1e-4)
    for _ in range(30):
        last = learner.step(batch)
    assert last[0] < 0.7 * first[0]
