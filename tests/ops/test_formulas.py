"""The losses' definitions against the calculations of the published programs, in float64."""

import pytest
import torch
from torch.nn import functional

from zdce import reference
from zdce.settings import LossWeights


def images(size=(37, 53), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, *size, generator=generator, dtype=torch.float64) for _ in range(2)]


def test_spatial_consistency_is_four_convolutions():
    enhanced, image = images()
    pools = [functional.avg_pool2d(x.mean(1, keepdim=True), 4) for x in (enhanced, image)]
    total = 0.0
    for row, column in ((1, 0), (1, 2), (0, 1), (2, 1)):
        kernel = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
        kernel[0, 0, 1, 1], kernel[0, 0, row, column] = 1.0, -1.0
        differences = [functional.conv2d(pool, kernel, padding=1) for pool in pools]
        total = total + (differences[1] - differences[0]).square()
    torch.testing.assert_close(reference.spatial_consistency(enhanced, image), total.mean())


@pytest.mark.parametrize(("iterations", "weight"), [(8, 200.0), (4, 400.0), (1, 1600.0)])
def test_paper_illumination_is_the_published_tv(iterations, weight):
    # Published: 2 (sum dy^2 / ((H-1) W) + sum dx^2 / (H (W-1))) / B, times 200 for 24 maps and 1600 for 3.
    maps = torch.rand(2, 3 * iterations, 37, 53, dtype=torch.float64)
    dy, dx = maps.diff(dim=2).square().sum(), maps.diff(dim=3).square().sum()
    published = 2 * (dy / (36 * 53) + dx / (37 * 52)) / 2
    torch.testing.assert_close(1600 * reference.illumination_smoothness(maps), weight * published)


def test_keras_illumination_is_the_examples():
    # The example's tensors are (B, H, W, C), its counts those of (B, C, H, W): (W-1) C and W (C-1). Its weight is 200.
    maps = torch.rand(2, 24, 37, 53, dtype=torch.float64)
    dy, dx = maps.diff(dim=2).square().sum(), maps.diff(dim=3).square().sum()
    example = 2 * (dy / (52 * 24) + dx / (53 * 23)) / 2
    torch.testing.assert_close(1600 * reference.illumination_smoothness(maps, "keras"), 200 * example)


def test_keras_pulls_about_11_times_stronger_at_256():
    maps = torch.rand(1, 24, 256, 256, dtype=torch.float64)
    ratio = reference.illumination_smoothness(maps, "keras") / reference.illumination_smoothness(maps)
    assert ratio.item() == pytest.approx(10.9, abs=0.05)


def test_color_constancy_is_the_published_root():
    (enhanced, _) = images()
    r, g, b = enhanced.mean((2, 3)).unbind(1)
    published = (((r - g) ** 2) ** 2 + ((r - b) ** 2) ** 2 + ((g - b) ** 2) ** 2).sqrt()
    torch.testing.assert_close(reference.color_constancy(enhanced), published.mean())


def test_exposure_control_leaves_out_the_incomplete_border():
    enhanced = torch.full((1, 3, 37, 53), 0.6, dtype=torch.float64)
    enhanced[:, :, 32:] = enhanced[:, :, :, 48:] = 0.0
    assert reference.exposure_control(enhanced).item() == pytest.approx(0.0, abs=1e-25)
    assert reference.exposure_control(enhanced, target=0.5).item() == pytest.approx(0.01)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("normalization", ["paper", "keras"])
def test_a_direction_without_pairs_contributes_nothing(size, normalization):
    maps = torch.rand(1, 24, *size, dtype=torch.float64, requires_grad=True)
    loss = reference.illumination_smoothness(maps, normalization)
    loss.backward()
    assert loss.isfinite()
    assert maps.grad.isfinite().all()
    assert (loss > 0) == (size != (1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("color", [(0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.2, 0.2, 0.7)])
def test_flat_images_give_finite_values_and_gradients(color, dtype):
    image = torch.tensor(color, dtype=dtype).reshape(1, 3, 1, 1).expand(1, 3, 32, 48).contiguous()
    for start in (0.0, -3.0, 30.0):
        logits = torch.full((1, 24, 32, 48), start, dtype=dtype, requires_grad=True)
        objective = reference.zero_reference_objective(image, logits)
        for term in objective:
            (gradient,) = torch.autograd.grad(term, logits, retain_graph=True)
            assert term.isfinite()
            assert gradient.isfinite().all()
        if len(set(color)) == 1:
            assert objective.color == 0
            assert not torch.autograd.grad(objective.color, logits)[0].any()


def test_total_is_weighted_and_terms_are_not():
    image, _ = images((32, 32))
    logits = torch.randn(2, 24, 32, 32, dtype=torch.float64)
    weights = LossWeights(3.0, 0.0, 7.0, 11.0)
    total, *terms = reference.zero_reference_objective(image, logits, weights)
    torch.testing.assert_close(total, sum(w * t for w, t in zip(weights, terms, strict=True)))
    for term, plain in zip(terms, reference.zero_reference_objective(image, logits)[1:], strict=True):
        assert term == plain
