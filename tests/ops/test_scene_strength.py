"""scene_strength and guided_strength: each backend finds what the float64 reference finds."""

import pytest
import torch

import zdce
from cases import nan_filled_allocations
from zdce import reference, scene_constants
from zdce.models import guided_scene
from zdce.ops import scene_strength
from zdce.scene_constants import SIDE

backends = pytest.mark.parametrize("backend", ["reference", "triton"], indirect=True)


def scenes(seed=0):
    """Images (6, 3, 64, 64): dark, with a lamp, with much black, in between, lit, and black."""
    random = torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    images = torch.tensor([0.05, 0.03, 0.08, 0.17, 0.5, 0.0])[:, None, None, None] * (0.7 + 0.6 * random)
    images[1, :, :8, :8], images[2, :, :30] = 0.9, 0.0
    return images


def random_maps(channels, images=6, seed=1):
    return -0.5 * torch.rand(images, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def near(found, expected, most, halvings):
    # A mean or a share at its limit falls to either side by rounding: the bisection then ends a last interval away.
    assert (found.double().cpu() - expected).abs().max() <= 1.01 * most / 2**halvings


@backends
@pytest.mark.parametrize(("channels", "iterations"), [(24, 8), (3, 8), (3, 1), (48, 16)])
def test_a_scenes_strength_is_that_of_float64(backend, device, channels, iterations):
    images, maps = scenes(), random_maps(channels)
    expected = reference.scene_strength(images.double(), maps.double(), iterations, 0.28)
    with zdce.backend(backend), nan_filled_allocations():
        found = torch.ops.zdce.scene_strength(images.to(device), maps.to(device), iterations, 0.28)
    assert found.dtype == torch.float32
    near(found, expected, scene_constants.HIGHEST_STRENGTH, scene_constants.HALVINGS)
    assert expected[0] > 0.1
    assert found[4:].tolist() == [0.0, 0.0]


@backends
def test_the_limit_of_white_is_that_of_float64(backend, device):
    images = scenes()
    images[:, :, ::16, ::4] = 0.93  # 1.6 % of the pixels become white
    maps = random_maps(3)
    expected = reference.scene_strength(images.double(), maps.double(), 8, 0.6)
    enhanced = reference.apply_curve(images.double(), (maps * (expected + 0.01)[:, None, None, None]).clamp(-1, 1), 8)
    assert scene_strength.clipped(enhanced)[0] > scene_constants.CLIPPED_SHARE
    with zdce.backend(backend):
        found = torch.ops.zdce.scene_strength(images.to(device), maps.to(device), 8, 0.6)
    near(found, expected, scene_constants.HIGHEST_STRENGTH, scene_constants.HALVINGS)


@backends
def test_the_strength_of_guided_maps_is_that_of_float64(backend, device):
    scene, maps = guided_scene.read(scenes()), random_maps(1)
    random = torch.rand(6, 3, generator=torch.Generator().manual_seed(2))
    limits = torch.tensor([0.2, 0.1, 0.01]) * (0.5 + random)
    limits[3, 0] = 1.0  # what is white decides
    arguments = scene.image, maps, scene.darker_half, limits
    expected = reference.guided_strength(*(each.double() for each in arguments), 8)
    with zdce.backend(backend), nan_filled_allocations():
        found = torch.ops.zdce.guided_strength(*(each.to(device) for each in arguments), 8)
    near(found, expected, scene_constants.HIGHEST_GUIDED_STRENGTH, scene_constants.GUIDED_HALVINGS)
    assert len(set(expected.tolist())) >= 4


@backends
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_types_are_widened(backend, device, dtype):
    scene = guided_scene.read(scenes())
    images, maps, darker_half = (each.to(dtype) for each in (scene.image, random_maps(24), scene.darker_half))
    limits = torch.tensor([[0.2, 0.1, 0.01]]).expand(6, 3)
    expected = reference.scene_strength(images.double(), maps.double(), 8, 0.28)
    guided = reference.guided_strength(images.double(), maps[:, :1].double(), darker_half.double(), limits.double(), 8)
    images, maps, darker_half, limits = (each.to(device) for each in (images, maps, darker_half, limits))
    with zdce.backend(backend):
        found = torch.ops.zdce.scene_strength(images, maps, 8, 0.28)
        near(found, expected, scene_constants.HIGHEST_STRENGTH, scene_constants.HALVINGS)
        found = torch.ops.zdce.guided_strength(images, maps[:, :1], darker_half, limits, 8)
        near(found, guided, scene_constants.HIGHEST_GUIDED_STRENGTH, scene_constants.GUIDED_HALVINGS)
    assert min(expected[0], guided[0]) > 0.1


@backends
def test_what_is_no_number_finds_no_strength(backend, device):
    images = scenes()
    images[0, 1, 5, 7] = float("nan")
    with zdce.backend(backend):
        found = torch.ops.zdce.scene_strength(images.to(device), random_maps(24).to(device), 8, 0.28)
    assert found[0] == 0
    assert found[1] > 0


def test_opcheck():
    scene = guided_scene.read(scenes()[:2])
    torch.library.opcheck(torch.ops.zdce.scene_strength.default, (scene.image, random_maps(24, 2), 8, 0.28))
    limits = torch.tensor([[0.2, 0.1, 0.01]]).expand(2, 3)
    torch.library.opcheck(
        torch.ops.zdce.guided_strength.default, (scene.image, random_maps(1, 2), scene.darker_half, limits, 8)
    )
