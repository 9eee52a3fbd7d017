// The functions that are compiled for each instruction set: one table for each set, filled in kernels/baseline.cpp and
// the files beside it. Callers check the arguments.
#pragma once

#include <cstdint>
#include <vector>

#include "convolution.h"
#include "isa.h"
#include "limits.h"
#include "pass_geometry.h"
#include "pictures.h"
#include "planes.h"
#include "rates.h"
#include "region_grid.h"
#include "workspace.h"

namespace zdce {

// Where a side of a picture samples maps: pixel i between first[i] and the next, at weight[i] of the way.
struct Axis {
  std::vector<int> first;
  std::vector<float> weight;
};

// Curve maps on a picture. picture, enhanced: (H, W, 3), interleaved, of one element type; maps: (1, 3 T, 3 or 2, h,
// w).
struct Enhancement {
  Picture picture, enhanced;
  Planes maps;
  int iterations;
  bool interpolated, logits;  // maps are smaller than the picture; they are to go through tanh
  float strength;
  Axis rows, columns;
};

// The noise that a curve amplified, smoothed. All pictures: (H, W, 3), interleaved, of one element type.
struct Denoising {
  Picture picture, enhanced, denoised;
  float limit;        // the square of the difference from which on a neighbour counts nothing, at a slope of sqrt(2)
  float chroma;       // share of the chroma's blur that a slope above 1 adds
  float color_error;  // the square of the colours' error as a share of lit photographs' colour
  float grain;        // the square of the grain's deviation as a fraction of white
};

// Of the objective: factors of the squared differences along y and x, which make the illumination term of them; each
// term's weight in the total; the brightness that exposure aims at.
struct ObjectiveSettings {
  double along_y, along_x, illumination, spatial, color, exposure, target;
};

// Shapes and types stand with the functions of the same names in kernels/.
struct Kernels {
  void (*apply_curve)(const Planes& image, const Planes& maps, int iterations, const Planes& enhanced);
  void (*apply_curve_backward)(const Planes& grad, const Planes& image, const Planes& maps, int iterations,
                               const Planes* grad_image, const Planes* grad_maps);
  void (*channel_means)(const Planes& image, void* means);
  void (*channel_means_backward)(const void* grad, const Planes& grad_image);
  void (*region_means)(const Planes& image, int64_t region, void* means);
  void (*region_means_backward)(const void* grad, int64_t region, const Planes& grad_image);
  void (*region_contrast)(const Planes& enhanced, const Planes& image, int64_t region, void* change, void* gaps);
  void (*region_contrast_backward)(bool wide, const void* grad, const void* gaps, const void* grad_gaps, int64_t region,
                                   const Planes& grad_image);
  void (*tv_sums)(const Planes& maps, void* sums);
  void (*tv_sums_backward)(const void* grad, const Planes& maps, const Planes& grad_maps);
  void (*objective_statistics)(const Planes& image, const Planes& logits, int iterations, void* enhanced_regions,
                               void* gaps, void* channel_means, void* tv_sums);
  void (*objective_statistics_backward)(const void* grad_regions, const void* grad_channels, const void* grad_tv,
                                        const Planes& image, const Planes& logits, int iterations,
                                        const Planes& grad_logits);
  void (*objective)(bool wide, const ObjectiveSettings& settings, const RegionGrid& grid, const void* regions,
                    const void* gaps, const void* channel_means, const void* tv_sums,
                    void* const (&scalars)[kObjectiveScalars]);
  void (*objective_backward)(bool wide, const ObjectiveSettings& settings, const RegionGrid& grid,
                             const void* const (&grads)[kObjectiveScalars], const void* regions, const void* gaps,
                             const void* channel_means, void* grad_regions, void* grad_channels, void* grad_tv);
  void (*convolution)(const ConvolutionWork& work);
  void (*convolution_backward)(const ConvolutionGradientWork& work);
  // The same on a matrix unit, with weights in matrices; null in sets without one. Called only if can_run_bfloat16().
  void (*matrix_convolution)(const ConvolutionWork& work) = nullptr;
  void (*matrix_convolution_backward)(const ConvolutionGradientWork& work) = nullptr;
  void (*enhance_picture)(const Enhancement& work);
  void (*denoise_picture)(const Denoising& work);
  // sums[i] += the rows' element i, for n elements of rows `stride` bytes apart. uint8 into uint16, uint16 into uint32,
  // float into double.
  void (*add_rows)(Element element, const char* from, int64_t stride, int64_t rows, int64_t n, void* sums);
  void (*run_network_tile)(const Network& network, const Geometry& geometry, const Picture& picture,
                           const NetworkResult& result, const PictureTile& tile, Workspace& workspace);
  // For benchmarks.
  float (*stream_read)(const float* from, int64_t n);
  void (*stream_write)(float* to, int64_t n, bool past_caches);
  int64_t (*multiply_adds)(float* sums, int64_t rounds);
  double (*convolution_rate)(const RateProblem& problem, RateMethod method, int64_t rounds);
};

#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
#endif
#if defined(__aarch64__)
namespace neon {
extern const Kernels kKernels;
}
#endif
#if defined(__wasm__)
namespace simd128 {
extern const Kernels kKernels;
}
#else
namespace baseline {
extern const Kernels kKernels;
}
#endif

// Those of a set that the processor supports, and of the chosen one.
const Kernels& kernels(Isa isa);
const Kernels& kernels();

// Whether networks can run in bfloat16: the processor can multiply matrices of it, the system lets this process do so,
// and the instruction set is the one whose kernels do.
bool can_run_bfloat16();

}  // namespace zdce
