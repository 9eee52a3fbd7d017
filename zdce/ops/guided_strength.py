"""``guided_strength``: area means (B, 3, 64, 64), guided maps (B, 1, 64, 64), darker half (B, 1, 64, 64), limits (B, 3) ->
strengths (B,) of the maps.

``zdce.models.guided_scene.strength`` is the public function.
"""

import torch
from torch import Tensor

from zdce.ops import operator
from zdce.ops.apply_curve import reference as curve_reference
from zdce.ops.luma import luma
from zdce.ops.scene_strength import Curve, clipped, largest
from zdce.scene_constants import GUIDED_HALVINGS, HIGHEST_GUIDED_STRENGTH

# The float64 reference.


def reference(image: Tensor, maps: Tensor, darker_half: Tensor, limits: Tensor, iterations: int) -> Tensor:
    """The largest factor of each image's maps with which one of the first two of its ``limits`` holds, and the third: the
    mean, the mean luma of the darker half, and the share of pixels that are white in some colour.
    """
    # Bytes as in zdce/ops/scene_strength.py, and once in each halving 4 * 64^2 of the darker half.
    return strength_with(image, maps, darker_half, limits, iterations, curve_reference)


def strength_with(image: Tensor, maps: Tensor, darker_half: Tensor, limits: Tensor, iterations: int, curve: Curve) -> Tensor:
    """As ``reference``, with ``curve``."""
    highest, highest_darker, allowed = limits.unbind(1)

    def keeps(enhanced: Tensor) -> Tensor:
        darker = (luma(enhanced) * darker_half).sum((1, 2, 3)) / counted
        return ((enhanced.mean((1, 2, 3)) <= highest) | (darker <= highest_darker)) & (clipped(enhanced) <= allowed)

    counted = darker_half.sum((1, 2, 3)).clamp(min=torch.finfo(darker_half.dtype).tiny)
    return largest(image, maps.expand(-1, 3, -1, -1), iterations, HIGHEST_GUIDED_STRENGTH, GUIDED_HALVINGS, keeps, curve)


# The operator; it has no gradient.


def _output(image: Tensor, maps: Tensor, darker_half: Tensor, limits: Tensor, iterations: int) -> Tensor:
    return operator.empty_statistic((image.shape[0],), image, maps)


operator.define(
    "guided_strength(Tensor image, Tensor maps, Tensor darker_half, Tensor limits, int iterations) -> Tensor",
    "guided_strength(Tensor image, Tensor maps, Tensor darker_half, Tensor limits, int iterations, Tensor(a!) strengths) -> ()",
    reference,
    _output,
    operator.contiguous,
    kernels=("triton",),
)
