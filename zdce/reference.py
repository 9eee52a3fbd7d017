"""The operations in plain torch, in any floating type: the truth that tests and benchmarks compare with.

Shapes: image and enhanced (B, 3, H, W); maps and logits (B, 3T, H, W), or (B, 3, H, W) shared by all steps. Bytes are per
pixel in float32 with T = 8.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from zdce import formulas
from zdce.formulas import Objective, Weights


def curve_steps(maps: Tensor, iterations: int | None = None) -> Iterator[Tensor]:
    """The T triplets of ``maps``, (B, 3, ...) each; the same one T times where ``maps`` has 3 channels."""
    steps = maps.shape[1] // 3 if iterations is None else iterations
    for t in range(steps):
        yield maps if maps.shape[1] == 3 else maps[:, 3 * t : 3 * t + 3]


def apply_curve(image: Tensor, maps: Tensor, iterations: int | None = None) -> Tensor:
    # Eager: every step reads x and one triplet and writes x, at best 36 bytes a pixel, 288 for T = 8.
    # Fused: image and maps are read once, the result is written once: 12 + 96 + 12 = 120.
    x = image
    for a in curve_steps(maps, iterations):
        x = x + a * (x * x - x)
    return x


def apply_curve_backward(grad: Tensor, image: Tensor, maps: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """The gradients of ``image`` and ``maps``, given ``grad`` (B, 3, H, W) of the enhanced image."""
    # Eager: autograd keeps every x_t, 12 bytes a step, and passes over them again.
    # Fused: grad, image and maps are read once, both gradients written once: 12 + 12 + 96 + 12 + 96 = 228.
    steps = list(curve_steps(maps, iterations))
    states = [image]
    for a in steps[:-1]:
        x = states[-1]
        states.append(x + a * (x * x - x))
    grad_steps = []
    for x, a in zip(reversed(states), reversed(steps), strict=True):
        grad_steps.append(grad * (x * x - x))
        grad = grad * (1 + a * (2 * x - 1))
    grad_steps.reverse()
    shared = maps.shape[1] == 3
    return grad, torch.stack(grad_steps).sum(0) if shared else torch.cat(grad_steps, dim=1)


def region_means(image: Tensor, region: int) -> Tensor:
    """Means over RGB and ``region`` x ``region`` pixels, (B, H // region, W // region); an incomplete border is left out."""
    # 12 bytes read, nearly nothing written.
    return functional.avg_pool2d(image.mean(1, keepdim=True), region).squeeze(1)


def channel_means(image: Tensor) -> Tensor:
    """Each image's mean colour, (B, 3)."""
    # 12 bytes read.
    return image.mean((2, 3))


def tv_sums(maps: Tensor) -> Tensor:
    """Squared differences of neighbours along y and along x, each summed over everything, (2,)."""
    # 96 bytes read; eager reads them several times and writes both differences.
    return torch.stack([maps.diff(dim=2).square().sum(), maps.diff(dim=3).square().sum()])


def illumination_smoothness(maps: Tensor, normalization: str = "paper") -> Tensor:
    return formulas.illumination_smoothness(tv_sums(maps), maps.shape, normalization)


def spatial_consistency(enhanced: Tensor, image: Tensor, region: int = 4) -> Tensor:
    return formulas.spatial_consistency(region_means(enhanced, region), region_means(image, region))


def color_constancy(enhanced: Tensor) -> Tensor:
    return formulas.color_constancy(channel_means(enhanced))


def exposure_control(enhanced: Tensor, target: float = 0.6, region: int = 16) -> Tensor:
    return formulas.exposure_control(region_means(enhanced, region), target)


def zero_reference_objective(
    image: Tensor,
    logits: Tensor,
    weights: Weights = Weights(),  # noqa: B008 (immutable)
    target: float = 0.6,
    normalization: str = "paper",
    iterations: int | None = None,
) -> Objective:
    # Eager: some forty passes. Fused: image and logits are read once, 12 + 96, and nothing image-sized is written.
    maps = torch.tanh(logits)
    enhanced = apply_curve(image, maps, iterations)
    return formulas.objective(
        weights,
        illumination=illumination_smoothness(maps, normalization),
        spatial=spatial_consistency(enhanced, image),
        color=color_constancy(enhanced),
        exposure=exposure_control(enhanced, target),
    )
