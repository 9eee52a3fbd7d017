"""``objective``, the fused operator under ``zero_reference_objective``: tanh, curve, statistics and the five scalars of them.

image (B, 3, H, W), logits (B, 3T or 3, H, W) -> total, illumination, spatial, color and exposure (); and without a gradient,
for backward: 4 x 4 region means (B, H // 4, W // 4) of the enhanced image, their gaps to the image's, and the enhanced
image's channel means (B, 3).
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zdce.ops import formulas, operator
from zdce.ops.apply_curve import reference as curve_reference
from zdce.ops.apply_curve import reference_backward as curve_reference_backward
from zdce.ops.channel_means import reference as channel_means_reference
from zdce.ops.channel_means import reference_backward as channel_means_reference_backward
from zdce.ops.region_contrast import gap_slopes
from zdce.ops.region_means import reference as region_means_reference
from zdce.ops.region_means import reference_backward as region_means_reference_backward
from zdce.ops.tv_sums import reference as tv_sums_reference
from zdce.ops.tv_sums import reference_backward as tv_sums_reference_backward
from zdce.settings import LossWeights

# The float64 reference.


def reference(
    image: Tensor,
    logits: Tensor,
    iterations: int,
    along_y: float,
    along_x: float,
    illumination: float,
    spatial: float,
    color: float,
    exposure: float,
    target: float,
) -> tuple[Tensor, ...]:
    """The five scalars, the enhanced image's region means, the gaps, the channel means.

    ``along_y`` and ``along_x`` are the ``illumination_factors``; the terms' names stand for their weights.
    """
    # Fused: image and logits are read once, 12 + 96.
    _, maps, regions, gaps, means = _statistics(image, logits, iterations)
    terms = formulas.objective(
        LossWeights(illumination, spatial, color, exposure),
        illumination=formulas.illumination_smoothness(tv_sums_reference(maps), (along_y, along_x)),
        spatial=formulas.spatial_consistency(gaps, tv_sums_reference),
        color=formulas.color_constancy(means),
        exposure=formulas.exposure_control(formulas.coarser(regions), target),
    )
    return *terms, regions, gaps, means


def _statistics(image: Tensor, logits: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``image`` (B, 3, H, W) in the common type, maps (B, 3T or 3, H, W), the enhanced image's region means and the gaps, each
    (B, H // 4, W // 4), and its channel means (B, 3).
    """
    # Eager: tanh, curve and statistics are passes of their own.
    image, logits = operator.in_common_dtype(image, logits)
    maps = torch.tanh(logits)
    enhanced = curve_reference(image, maps, iterations)
    regions = region_means_reference(enhanced, 4)
    return image, maps, regions, regions - region_means_reference(image, 4), channel_means_reference(enhanced)


def reference_backward(
    grad_total: Tensor | None,
    grad_illumination: Tensor | None,
    grad_spatial: Tensor | None,
    grad_color: Tensor | None,
    grad_exposure: Tensor | None,
    enhanced_regions: Tensor,
    gaps: Tensor,
    channel_means: Tensor,
    image: Tensor,
    logits: Tensor,
    iterations: int,
    along_y: float,
    along_x: float,
    illumination: float,
    spatial: float,
    color: float,
    exposure: float,
    target: float,
) -> Tensor:
    """Gradient of ``logits`` from those of the five scalars; None is 0.

    The three statistics are computed again: what this function is differentiated by is image, logits and gradients alone.
    """
    # Fused: image and logits are read once, the gradient is written once: 12 + 96 + 96 = 204.
    image, maps, regions, gaps, means = _statistics(image, logits, iterations)
    size = image.shape[2:]

    def gradient(weight: float, own: Tensor | None) -> Tensor:
        total = maps.new_zeros(()) if grad_total is None else weight * grad_total
        return total if own is None else total + own

    grad_gaps = gap_slopes(gradient(spatial, grad_spatial), gaps)
    coarse = formulas.coarser(regions)
    slopes = gradient(exposure, grad_exposure) * 2 * (coarse - target) / coarse.numel() / 16
    fine = slopes.repeat_interleave(4, 1).repeat_interleave(4, 2)
    grad_regions = grad_gaps + functional.pad(fine, (0, regions.shape[2] - fine.shape[2], 0, regions.shape[1] - fine.shape[1]))
    pulls = (means - means.roll(1, 1)) + (means - means.roll(-1, 1))
    grad_means = gradient(color, grad_color) * math.sqrt(2) / len(means) * pulls
    grad_tv = gradient(illumination, grad_illumination) * means.new_tensor([along_y, along_x])

    grad = region_means_reference_backward(grad_regions, 4, *size) + channel_means_reference_backward(grad_means, *size)
    grad_maps = curve_reference_backward(grad, image, maps, iterations)[1] + tv_sums_reference_backward(grad_tv, maps)
    return grad_maps * (1 - maps * maps)


# The operator.

# Number of scalars, then of statistics, that forward returns.
SCALARS, _STATISTICS = len(formulas.Objective._fields), 3


def _outputs(image: Tensor, logits: Tensor, *settings: Any) -> tuple[Tensor, ...]:
    batch, _, height, width = image.shape
    regions = (batch, height // 4, width // 4)
    shapes: list[tuple[int, ...]] = [*SCALARS * [()], regions, regions, (batch, 3)]
    return tuple(operator.empty_statistic(shape, image, logits) for shape in shapes)


def _gradient(*inputs: Any) -> Tensor:
    return operator.empty_in_layout(inputs[SCALARS + _STATISTICS + 1])


# The operators take the normalisation's name, not its factors, which depend on the size: a number that an operator takes is a
# constant to torch.compile, which would compile anew for each size.
def _with_factors(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    *tensors, logits, iterations, normalization, illumination, spatial, color, exposure, target = inputs
    factors = formulas.illumination_factors(logits.shape, normalization)
    return *tensors, logits, iterations, *factors, illumination, spatial, color, exposure, target


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    image, logits, *ctx.settings = inputs
    statistics = output[SCALARS:]
    ctx.save_for_backward(*statistics, image, logits)
    ctx.mark_non_differentiable(*statistics)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    grad = operator.call_backward("objective_backward", *grads[:SCALARS], *ctx.saved_tensors, *ctx.settings, ctx.backend)
    return None, grad, *len(ctx.settings) * [None]


_GRADIENTS = "Tensor? grad_total, Tensor? grad_illumination, Tensor? grad_spatial, Tensor? grad_color, Tensor? grad_exposure"
_SAVED = "Tensor enhanced_regions, Tensor gaps, Tensor channel_means, Tensor image, Tensor logits"
_WEIGHTS = "float illumination, float spatial, float color, float exposure, float target"

operator.define(
    f"objective(Tensor image, Tensor logits, int iterations, str normalization, {_WEIGHTS})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    f"objective(Tensor image, Tensor logits, int iterations, float along_y, float along_x, {_WEIGHTS},"
    " Tensor(a!) total, Tensor(b!) illumination_term, Tensor(c!) spatial_term, Tensor(d!) color_term, Tensor(e!) exposure_term,"
    " Tensor(f!) enhanced_regions, Tensor(g!) gaps, Tensor(h!) channel_means) -> ()",
    reference,
    _outputs,
    inputs=_with_factors,
    kernels=("cpp", "triton", "cuda"),
)
operator.define(
    f"objective_backward({_GRADIENTS}, {_SAVED}, int iterations, str normalization, {_WEIGHTS}, str backend) -> Tensor",
    f"objective_backward({_GRADIENTS}, {_SAVED}, int iterations, float along_y, float along_x, {_WEIGHTS},"
    " Tensor(a!) grad_logits) -> ()",
    reference_backward,
    _gradient,
    inputs=_with_factors,
    kernels=("cpp", "triton", "cuda"),
)
operator.register_gradient("objective", _setup, _backward)
