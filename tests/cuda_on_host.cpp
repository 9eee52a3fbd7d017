// The CUDA kernels behind a C interface, compiled for the host: what csrc/cuda/*.cu does for torch on a GPU, this file
// does for tests on the CPU.

#include "cuda_on_host.h"

#include "../csrc/cuda/apply_curve.cuh"

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
}
