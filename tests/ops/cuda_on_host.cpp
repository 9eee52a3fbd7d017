// The CUDA kernels behind a C interface, compiled for the host: what csrc/cuda/*.cu does for torch on a GPU, this file
// does for tests on the CPU.

#include "cuda_on_host.h"

#include <limits>
#include <vector>

#include "../../csrc/cuda/apply_curve.cuh"
#include "../../csrc/cuda/objective.cuh"

using namespace zdce::cuda;

namespace {

struct Launch {
  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), int64_t blocks, int threads, const Arguments&... arguments) const {
    cuda_on_host::launch(blocks, threads, [&] { kernel(arguments...); });
  }
};

}  // namespace

// Tensors (B, C, H, W) come as pointers to their view; a null data pointer marks a gradient that is not wanted.
extern "C" {

void zdce_apply_curve(const Planes* image, const Planes* maps, const Planes* enhanced, const CurveShape* shape) {
  launch_apply_curve(Launch{}, *image, *maps, *enhanced, *shape);
}

void zdce_apply_curve_backward(const Planes* grad, const Planes* image, const Planes* maps, const Planes* grad_image,
                               const Planes* grad_maps, const CurveShape* shape) {
  launch_apply_curve_backward(Launch{}, *grad, *image, *maps, *grad_image, *grad_maps, *shape);
}

// o->partials is made here.
void zdce_objective_statistics(const ObjectiveForward* o, const ObjectiveShape* shape) {
  std::vector<float> partials(objective_partials(*shape), std::numeric_limits<float>::quiet_NaN());
  ObjectiveForward with_partials = *o;
  with_partials.partials = partials.data();
  launch_objective(Launch{}, with_partials, *shape);
}

void zdce_objective_statistics_backward(const ObjectiveBackward* o, const ObjectiveShape* shape) {
  launch_objective(Launch{}, *o, *shape);
}

// The second kernel of forward alone, on partials (5, B, tiles) that the caller made.
void zdce_objective_sums(const ObjectiveForward* o, int64_t tiles, const ObjectiveShape* shape) {
  Launch{}(objective_sums<>, 3 * shape->batch + 2, kSumThreads, *o, tiles, *shape);
}
}
