"""Both GPU backends against float64, where a GPU can differ from its stand-ins: every T, type and layout, and large grids.

The other tests of the operators run on a GPU too: ``pytest tests -k "triton or cuda"``.
"""

import pytest
import torch

import zdce
from cases import layouts, nan_filled_allocations, random_case
from zdce import reference
from zdce.models import guided_scene

# Of the largest true value. float32: each step may double what was lost before; half types round what they store.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 1.6e-2}
LAYOUTS = ("contiguous", "channels_last", "crop", "channels")
# Numbers of steps for which Triton compiles the objective here; more would take minutes. Interpreted, all are tested.
COMPILED = (1, 2, 3, 5, 8, 16)

SIZES = [(16, 16), (17, 31), (64, 130), (33, 1), (1, 40), (270, 480)]


@pytest.fixture(params=["triton", "cuda"])
def backend(request, gpu):
    if reason := zdce.ops.dispatch.why_missing(request.param, gpu.type):
        pytest.skip(f"{request.param}: {reason}")
    with zdce.backend(request.param), nan_filled_allocations():
        yield request.param


def layouts_for(backend, iterations, dtype):
    """All layouts; for Triton, which compiles each kernel for each, another one for every number of steps and type."""
    first = (iterations + list(TOLERANCES).index(dtype)) % len(LAYOUTS)
    return LAYOUTS if backend == "cuda" else LAYOUTS[first : first + 1]


def near(got, truth, dtype):
    scale = truth.abs().max().item() or 1.0
    torch.testing.assert_close(got.detach().double().cpu(), truth.detach(), rtol=0, atol=TOLERANCES[dtype] * scale)


def differentiated(function, image, maps, grad):
    leaves = [tensor.detach().requires_grad_() for tensor in (image, maps)]
    result = function(*leaves)
    return result, *torch.autograd.grad(result, leaves, grad.to(result))


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("iterations", range(1, 17))
def test_the_curve_for_every_number_of_steps(backend, gpu, iterations, dtype):
    size = SIZES[iterations % len(SIZES)]
    for layout in layouts_for(backend, iterations, dtype):
        image, maps, grad = random_case(size, iterations, dtype=dtype, device=gpu, seed=iterations)
        image, maps = layouts(image)[layout], layouts(maps)[layout]
        got = differentiated(zdce.ops.apply_curve, image, maps, grad)
        exact = [tensor.double().cpu() for tensor in (image, maps, grad)]
        for one, truth in zip(got, differentiated(reference.apply_curve, *exact), strict=True):
            near(one, truth, dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("iterations", range(16, 0, -1))  # those that compile longest begin
def test_the_objective_for_every_number_of_steps(backend, gpu, iterations, dtype):
    if backend == "triton" and iterations not in COMPILED:
        pytest.skip("not compiled here: COMPILED")
    sizes = {"contiguous": (64, 128), "channels_last": (37, 51), "crop": (48, 65), "channels": (16, 33)}
    for layout in layouts_for(backend, iterations, dtype):
        image, logits, _ = random_case(sizes[layout], iterations, dtype=dtype, device=gpu, seed=iterations)
        image, logits = layouts(image)[layout], layouts(logits)[layout]

        def total(function, image, logits):
            leaf = logits.detach().requires_grad_()
            objective = function(image, leaf, iterations=iterations)
            return *(term.detach() for term in objective), torch.autograd.grad(objective.total, leaf)[0]

        exact = total(reference.zero_reference_objective, image.double().cpu(), logits.double().cpu())
        got = total(zdce.ops.zero_reference_objective, image, logits)
        for one, truth in zip(got[:-1], exact[:-1], strict=True):
            torch.testing.assert_close(one.double().cpu(), truth, rtol=1e-4, atol=1e-7)
        near(got[-1], exact[-1], dtype)


def thumbnails():
    """Images (4, 3, 64, 64): dark, with a lamp, half black, and lit; and maps (4, 24, 64, 64)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.tensor([0.05, 0.03, 0.08, 0.5])[:, None, None, None] * (
        0.7 + 0.6 * torch.rand(4, 3, 64, 64, generator=generator)
    )
    images[1, :, :8, :8], images[2, :, :30] = 0.9, 0.0
    return images, -0.5 * torch.rand(4, 24, 64, 64, generator=generator)


@pytest.mark.parametrize("channels", [24, 3])
def test_the_strength_for_a_scene(backend, gpu, channels):
    images, maps = thumbnails()
    found = torch.ops.zdce.scene_strength(images.to(gpu), maps[:, :channels].to(gpu), 8, 0.28)
    expected = reference.scene_strength(images.double(), maps[:, :channels].double(), 8, 0.28)
    # At a limit rounding decides: the last of 15 halvings of 2.
    assert (found.double().cpu() - expected).abs().max() <= 1.01 * 2 / 2**15


def test_the_strength_of_guided_maps(backend, gpu):
    images, maps = thumbnails()
    scene = guided_scene.read(images)
    limits = torch.tensor([0.2, 0.1, 0.01]) * torch.linspace(0.5, 1.5, 12).view(4, 3)
    arguments = scene.image, maps[:, :1], scene.darker_half, limits
    found = torch.ops.zdce.guided_strength(*(each.to(gpu) for each in arguments), 8)
    expected = reference.guided_strength(*(each.double() for each in arguments), 8)
    assert (found.double().cpu() - expected).abs().max() <= 1.01 * 4 / 2**16


@pytest.mark.parametrize("shared", [False, True])
def test_a_large_picture(backend, gpu, shared):
    if gpu.type != "cuda":
        pytest.skip("on a GPU only: 100 megapixels")
    torch.manual_seed(0)
    image = torch.rand(1, 3, 8192, 12288, device=gpu, dtype=torch.float16)
    maps = torch.rand(1, 3 if shared else 24, 8192, 12288, device=gpu, dtype=torch.float16)
    got = zdce.ops.apply_curve(image, maps, 8)
    rows = slice(8128, 8192)  # the last ones, whose channels lie furthest apart
    truth = reference.apply_curve(image[..., rows, :].double().cpu(), maps[..., rows, :].double().cpu(), 8)
    near(got[..., rows, :], truth, torch.float16)
