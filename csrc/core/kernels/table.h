// The kernels of an instruction set: all of them or, with ZDCE_ENHANCING_ONLY, those that zdce.h needs.
#pragma once

#include "apply_curve.h"
#include "denoise_picture.h"
#include "enhance_picture.h"
#include "pass.h"
#include "reduce_picture.h"
#if !ZDCE_ENHANCING_ONLY
#include "channel_means.h"
#include "convolution.h"
#include "convolution_rate.h"
#include "fma_peak.h"
#include "matrix_convolution.h"
#include "objective.h"
#include "objective_statistics.h"
#include "region_contrast.h"
#include "region_means.h"
#include "streaming.h"
#include "tv_sums.h"
#endif

namespace zdce::ZDCE_TARGET {

extern const Kernels kKernels;
const Kernels kKernels = {
    .apply_curve = apply_curve::run,
#if !ZDCE_ENHANCING_ONLY
    .apply_curve_backward = apply_curve::run_backward,
    .channel_means = channel_means::run,
    .channel_means_backward = channel_means::run_backward,
    .region_means = region_means::run,
    .region_means_backward = region_means::run_backward,
    .region_contrast = region_contrast::run,
    .region_contrast_backward = region_contrast::run_backward,
    .tv_sums = tv_sums::run,
    .tv_sums_backward = tv_sums::run_backward,
    .objective_statistics = objective_statistics::run,
    .objective_statistics_backward = objective_statistics::run_backward,
    .objective = objective::run,
    .objective_backward = objective::run_backward,
    .convolution = convolution::run,
    .convolution_backward = convolution::run_backward,
#if ZDCE_HAS_AMX
    .matrix_convolution = matrix_convolution::run,
    .matrix_convolution_backward = matrix_convolution::run_backward,
#endif
#endif
    .enhance_picture = enhance_picture::run,
    .denoise_picture = denoise_picture::run,
    .add_rows = reduce_picture::add_rows,
    .run_network_tile = run_network_tile,
#if !ZDCE_ENHANCING_ONLY
    .stream_read = streaming::read,
    .stream_write = streaming::write,
    .multiply_adds = fma_peak::run,
    .convolution_rate = convolution_rate::run,
#endif
};

}  // namespace zdce::ZDCE_TARGET
