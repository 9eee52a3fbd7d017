"""``region_contrast``: enhanced, image (B, 3, H, W) -> spatial consistency (), gaps (B, H // region, W // region).

The gaps are the differences of both images' region means. Backward needs them, and neither image.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zdce.ops import formulas, mean_gradients, operator
from zdce.ops.region_means import reference as region_means_reference
from zdce.ops.region_means import reference_backward as region_means_reference_backward
from zdce.ops.tv_sums import reference as tv_sums_reference
from zdce.ops.tv_sums import reference_backward as tv_sums_reference_backward

# The float64 reference.


def reference(enhanced: Tensor, image: Tensor, region: int) -> tuple[Tensor, Tensor]:
    """The loss, and the difference of both images' region means (B, H // region, W // region)."""
    # Eager: each image is a pass of its own, and the small grid ten more. Fused: 24 bytes read, nearly nothing written.
    enhanced, image = operator.in_common_dtype(enhanced, image)
    gaps = region_means_reference(enhanced, region) - region_means_reference(image, region)
    return formulas.spatial_consistency(gaps, tv_sums_reference), gaps


def reference_backward(
    grad: Tensor | None, gaps: Tensor, grad_gaps: Tensor | None, region: int, height: int, width: int
) -> Tensor:
    """Gradient of the enhanced image (B, 3, height, width) from those of the loss and of the gaps; None is 0."""
    # 12 bytes written.
    slopes = torch.zeros_like(gaps) if grad_gaps is None else grad_gaps
    if grad is not None:
        slopes = slopes + gap_slopes(grad, gaps)
    return region_means_reference_backward(slopes, region, height, width)


def gap_slopes(grad: Tensor, gaps: Tensor) -> Tensor:
    """Gradient of the gaps from that of the loss: the mean squared differences of the gaps, padded and not."""
    both = (grad / gaps.numel()).expand(2)
    inside = gaps.unsqueeze(1)
    padded = tv_sums_reference_backward(both, functional.pad(inside, (1, 1, 1, 1)))[:, :, 1:-1, 1:-1]
    return (padded + tv_sums_reference_backward(both, inside)).squeeze(1)


# The operator.


def _outputs(enhanced: Tensor, image: Tensor, region: int) -> tuple[Tensor, Tensor]:
    batch, _, height, width = image.shape
    gaps = operator.empty_statistic((batch, height // region, width // region), enhanced, image)
    return gaps.new_empty(()), gaps


def _gradient(
    grad: Tensor | None,
    gaps: Tensor,
    grad_gaps: Tensor | None,
    region: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    channels_last: bool,
    backend: str,
) -> Tensor:
    return mean_gradients.empty_image(gaps, height, width, dtype, channels_last)


def _backward_arguments(inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> Any:
    grad, gaps, grad_gaps, region, height, width, *_ = inputs
    return (grad, gaps.contiguous(), None if grad_gaps is None else grad_gaps.contiguous(), region, height, width), outputs


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, Tensor]) -> None:
    *images, ctx.region = inputs
    ctx.images = [(*image.shape[2:], image.dtype, operator.is_channels_last(image)) for image in images]
    ctx.save_for_backward(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_gaps: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
    (gaps,) = ctx.saved_tensors

    def of_image(which: int, *grads: Tensor | None) -> Tensor | None:
        if not ctx.needs_input_grad[which]:
            return None
        first, second = grads
        image = ctx.images[which]
        return operator.call_backward("region_contrast_backward", first, gaps, second, ctx.region, *image, ctx.backend)

    # The gaps are those of enhanced minus those of the image.
    return of_image(0, grad, grad_gaps), of_image(1, *(None if g is None else -g for g in (grad, grad_gaps))), None


operator.define(
    "region_contrast(Tensor enhanced, Tensor image, int region) -> (Tensor, Tensor)",
    "region_contrast(Tensor enhanced, Tensor image, int region, Tensor(a!) loss, Tensor(b!) gaps) -> ()",
    reference,
    _outputs,
)
operator.define(
    "region_contrast_backward(Tensor? grad, Tensor gaps, Tensor? grad_gaps, int region, SymInt height, SymInt width,"
    " ScalarType dtype, bool channels_last, str backend) -> Tensor",
    "region_contrast_backward(Tensor? grad, Tensor gaps, Tensor? grad_gaps, int region, int height, int width,"
    " Tensor(a!) grad_image) -> ()",
    reference_backward,
    _gradient,
    _backward_arguments,
)
operator.register_gradient("region_contrast", _setup, _backward)
