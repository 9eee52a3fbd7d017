"""The float64 references of all operations under their names: what tests and benchmarks compare with.

Each is plain torch in any floating type and stands in its operation's file in ``zdce/ops``. Shapes: image and enhanced
(B, 3, H, W); maps and logits (B, 3T, H, W), or (B, 3, H, W) shared by all steps.
"""

from zdce.ops.apply_curve import reference as apply_curve
from zdce.ops.apply_curve import reference_backward as apply_curve_backward
from zdce.ops.channel_means import reference as channel_means
from zdce.ops.channel_means import reference_backward as channel_means_backward
from zdce.ops.convolution import reference as convolution
from zdce.ops.convolution import reference_backward as convolution_backward
from zdce.ops.denoise_picture import denoise
from zdce.ops.denoise_picture import reference as denoise_picture
from zdce.ops.enhance_picture import reference as enhance_picture
from zdce.ops.guided_strength import reference as guided_strength
from zdce.ops.losses import color_constancy_reference as color_constancy
from zdce.ops.losses import exposure_control_reference as exposure_control
from zdce.ops.losses import illumination_smoothness_reference as illumination_smoothness
from zdce.ops.losses import spatial_consistency_reference as spatial_consistency
from zdce.ops.losses import zero_reference_objective_reference as zero_reference_objective
from zdce.ops.objective import reference as objective
from zdce.ops.objective import reference_backward as objective_backward
from zdce.ops.picture_noise import reference as picture_noise
from zdce.ops.reduce_picture import reference as reduce_picture
from zdce.ops.region_contrast import reference as region_contrast
from zdce.ops.region_contrast import reference_backward as region_contrast_backward
from zdce.ops.region_means import reference as region_means
from zdce.ops.region_means import reference_backward as region_means_backward
from zdce.ops.scene_strength import reference as scene_strength
from zdce.ops.tv_sums import reference as tv_sums
from zdce.ops.tv_sums import reference_backward as tv_sums_backward

__all__ = [
    "apply_curve",
    "apply_curve_backward",
    "channel_means",
    "channel_means_backward",
    "color_constancy",
    "convolution",
    "convolution_backward",
    "denoise",
    "denoise_picture",
    "enhance_picture",
    "exposure_control",
    "guided_strength",
    "illumination_smoothness",
    "objective",
    "objective_backward",
    "picture_noise",
    "reduce_picture",
    "region_contrast",
    "region_contrast_backward",
    "region_means",
    "region_means_backward",
    "scene_strength",
    "spatial_consistency",
    "tv_sums",
    "tv_sums_backward",
    "zero_reference_objective",
]
