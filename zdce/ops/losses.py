"""Losses of Zero-DCE with their float64 references.

Kernels compute small statistics, of which ``formulas`` makes the scalars; the kernels of ``objective`` make these as well.
"""

import torch
from torch import Tensor

from zdce.ops import formulas, objective, operator
from zdce.ops.apply_curve import reference as apply_curve_reference
from zdce.ops.arguments import (
    check_alike,
    check_iterations,
    check_normalization,
    check_region,
    check_target,
    check_tensor,
    check_weights,
)
from zdce.ops.channel_means import reference as channel_means_reference
from zdce.ops.formulas import Objective
from zdce.ops.region_contrast import reference as region_contrast_reference
from zdce.ops.region_means import reference as region_means_reference
from zdce.ops.tv_sums import reference as tv_sums_reference
from zdce.settings import LossWeights


def illumination_smoothness(maps: Tensor, normalization: str = "paper") -> Tensor:
    """Squared differences of neighbouring curve values along both axes (Zero-DCE, eq. 7, as published code has it).

    That is twice the sum, over both axes and the three colours, of the mean square over images, iterations and pairs. Equation
    7 squares the sum of both axes' absolute differences, and has no factor 2.

    Args:
        maps: curve maps, shape (B, 3T, H, W).
        normalization: ``"paper"``: the mean over iterations and pairs; ``"keras"``: the divisors of the Keras example, about
            10.9 times stronger at 256 x 256.

    Returns:
        A scalar (float64 for float64 input, else float32), differentiable in ``maps``. A direction with no pairs gives 0.

    Raises:
        TypeError, ValueError: ``maps`` is not a floating (B, 3T, H, W), or there is no such normalisation.

    >>> zdce.ops.illumination_smoothness(torch.ones(1, 24, 8, 8))
    tensor(0.)
    """
    check_tensor("maps", maps, channels=None)
    check_iterations("maps", maps, None)
    check_normalization(normalization)
    factors = formulas.illumination_factors(maps.shape, normalization)
    return formulas.illumination_smoothness(operator.call("tv_sums", maps), factors)


def illumination_smoothness_reference(maps: Tensor, normalization: str = "paper") -> Tensor:
    return formulas.illumination_smoothness(tv_sums_reference(maps), formulas.illumination_factors(maps.shape, normalization))


def spatial_consistency(enhanced: Tensor, image: Tensor, region: int = 4) -> Tensor:
    """Change of the contrast between neighbouring regions (Zero-DCE, eq. 4, as published code has it).

    The differences keep their sign, where equation 4 takes their absolute values first, and regions at the border have
    neighbours of brightness 0 beyond it, so that a change of brightness there counts too.

    Args:
        enhanced: images in [0, 1], shape (B, 3, H, W), B at least 1, H and W at least ``region``.
        image: images before enhancement, same shape.
        region: side of the averaged squares in pixels; incomplete ones at the border are left out.

    Returns:
        A scalar (float64 for float64 input, else float32), differentiable in both arguments.

    Raises:
        TypeError, ValueError: an argument is not a floating (B, 3, H, W) of at least one region, or they disagree.

    >>> image = torch.rand(1, 3, 8, 8)
    >>> zdce.ops.spatial_consistency(image, image)
    tensor(0.)
    """
    check_region(region)
    check_tensor("enhanced", enhanced, channels=3, at_least=region)
    check_tensor("image", image, channels=3, at_least=region)
    check_alike("enhanced", enhanced, "image", image)
    loss, _ = operator.call("region_contrast", enhanced, image, region)
    return loss


def spatial_consistency_reference(enhanced: Tensor, image: Tensor, region: int = 4) -> Tensor:
    return region_contrast_reference(enhanced, image, region)[0]


def color_constancy(enhanced: Tensor) -> Tensor:
    """Distance of each image's mean colour from grey (Zero-DCE, eq. 6, divided by sqrt(2) as published code has it).

    Args:
        enhanced: images in [0, 1], shape (B, 3, H, W).

    Returns:
        A scalar (float64 for float64 input, else float32), differentiable in ``enhanced``; its gradient on grey images is 0.

    Raises:
        TypeError, ValueError: ``enhanced`` is not a floating (B, 3, H, W).

    >>> zdce.ops.color_constancy(torch.full((1, 3, 4, 4), 0.5))
    tensor(0.)
    """
    check_tensor("enhanced", enhanced, channels=3)
    return formulas.color_constancy(operator.call("channel_means", enhanced))


def color_constancy_reference(enhanced: Tensor) -> Tensor:
    return formulas.color_constancy(channel_means_reference(enhanced))


def exposure_control(enhanced: Tensor, target: float = 0.6, region: int = 16) -> Tensor:
    """Squared distance of each region's mean brightness from a well-exposed level (Zero-DCE, eq. 5, squared as published).

    Args:
        enhanced: images in [0, 1], shape (B, 3, H, W), B at least 1, H and W at least ``region``.
        target: the level E in [0, 1].
        region: side of the averaged squares in pixels; incomplete ones at the border are left out.

    Returns:
        A scalar (float64 for float64 input, else float32), differentiable in ``enhanced``.

    Raises:
        TypeError, ValueError: ``enhanced`` is not a floating (B, 3, H, W) of at least one region, or ``target`` not in [0, 1].

    >>> zdce.ops.exposure_control(torch.full((1, 3, 32, 32), 0.5), target=0.5)
    tensor(0.)
    """
    check_region(region)
    check_tensor("enhanced", enhanced, channels=3, at_least=region)
    check_target(target)
    return formulas.exposure_control(operator.call("region_means", enhanced, region), target)


def exposure_control_reference(enhanced: Tensor, target: float = 0.6, region: int = 16) -> Tensor:
    return formulas.exposure_control(region_means_reference(enhanced, region), target)


def zero_reference_objective(
    image: Tensor,
    logits: Tensor,
    weights: LossWeights = LossWeights(),  # noqa: B008 (immutable)
    target: float = 0.6,
    normalization: str = "paper",
    iterations: int | None = None,
) -> Objective:
    """Training objective of Zero-DCE from the output of the network's last convolution: tanh, curve and the four terms.

    Args:
        image: images in [0, 1], shape (B, 3, H, W), B at least 1, H and W at least 16; it gets no gradient.
        logits: output of the network before tanh, shape (B, 3T, H, W), or (B, 3, H, W) with ``iterations``.
        weights: weight of each term in the total, ``zdce.LossWeights`` or four numbers in their order.
        target: the level E in [0, 1] that exposure control aims at.
        normalization: normalisation of the illumination term, ``"paper"`` or ``"keras"``.
        iterations: T, from 1 to 16; None takes it from the channels of ``logits``.

    Returns:
        ``Objective(total, illumination, spatial, color, exposure)``: the weighted total and the four unweighted terms, scalars
        (float64 for float64 input, else float32), all differentiable in ``logits``.

    Raises:
        TypeError, ValueError: arguments are not as above, or ``image`` requires a gradient.

    >>> image, logits = torch.full((1, 3, 16, 16), 0.1), torch.zeros(1, 24, 16, 16)
    >>> zdce.ops.zero_reference_objective(image, logits).exposure
    tensor(0.2500)
    """
    check_tensor("image", image, channels=3, at_least=16)
    check_tensor("logits", logits, channels=None)
    check_alike("logits", logits, "image", image)
    steps = check_iterations("logits", logits, iterations)
    check_weights(weights)
    check_normalization(normalization)
    check_target(target)
    if image.requires_grad:
        raise ValueError("image must not require a gradient: only logits have one")
    outputs = operator.call("objective", image, logits, steps, normalization, *weights, target)
    return Objective(*outputs[: objective.SCALARS])


def zero_reference_objective_reference(
    image: Tensor,
    logits: Tensor,
    weights: LossWeights = LossWeights(),  # noqa: B008 (immutable)
    target: float = 0.6,
    normalization: str = "paper",
    iterations: int | None = None,
) -> Objective:
    # Eager: some forty passes. Fused: image and logits are read once, 12 + 96, and nothing image-sized is written.
    maps = torch.tanh(logits)
    enhanced = apply_curve_reference(image, maps, iterations)
    return formulas.objective(
        weights,
        illumination=illumination_smoothness_reference(maps, normalization),
        spatial=spatial_consistency_reference(enhanced, image),
        color=color_constancy_reference(enhanced),
        exposure=exposure_control_reference(enhanced, target),
    )
