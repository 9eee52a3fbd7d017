"""Fused operations for any PyTorch code; one file each, with checks, float64 reference, schema, outputs and gradient."""

from zdce.ops.apply_curve import apply_curve
from zdce.ops.arguments import NORMALIZATIONS
from zdce.ops.convolution import convolution
from zdce.ops.denoise_picture import denoise_picture
from zdce.ops.enhance_picture import enhance_picture
from zdce.ops.formulas import Objective
from zdce.ops.losses import (
    color_constancy,
    exposure_control,
    illumination_smoothness,
    spatial_consistency,
    zero_reference_objective,
)
from zdce.ops.picture_noise import picture_noise
from zdce.ops.reduce_picture import reduce_picture
from zdce.settings import MAX_ITERATIONS, MAX_SCALE

__all__ = [
    "MAX_ITERATIONS",
    "MAX_SCALE",
    "NORMALIZATIONS",
    "Objective",
    "apply_curve",
    "color_constancy",
    "convolution",
    "denoise_picture",
    "enhance_picture",
    "exposure_control",
    "illumination_smoothness",
    "picture_noise",
    "reduce_picture",
    "spatial_consistency",
    "zero_reference_objective",
]
