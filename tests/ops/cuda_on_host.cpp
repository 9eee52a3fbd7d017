// The CUDA kernels behind a C interface, compiled for the host: what csrc/cuda/*.cu does for torch on a GPU, this file
// does for tests on the CPU.

#include "cuda_on_host.h"

#include <limits>
#include <vector>

#include "../../csrc/cuda/apply_curve.cuh"
#include "../../csrc/cuda/network.cuh"
#include "../../csrc/cuda/objective.cuh"

using namespace zdce::cuda;

namespace {

struct Launch {
  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), int64_t blocks, int threads, const Arguments&... arguments) const {
    cuda_on_host::launch(blocks, threads, [&] { kernel(arguments...); });
  }

  template <class... Parameters, class... Arguments>
  void with_shared(void (*kernel)(Parameters...), int64_t blocks, int threads, int bytes, int,
                   const Arguments&... arguments) const {
    cuda_on_host::launch(blocks, threads, [&] { kernel(arguments...); }, bytes);
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

// What nobody reads later is made here.
void zdce_objective(const ObjectiveForward* o, const ObjectiveShape* shape) {
  std::vector<float> partials(objective_partials(*shape), std::numeric_limits<float>::quiet_NaN());
  std::vector<double> sums(objective_sums(*shape), std::numeric_limits<double>::quiet_NaN());
  unsigned arrived = 12345;
  ObjectiveForward whole = *o;
  whole.partials = partials.data(), whole.sums = sums.data(), whole.arrived = &arrived;
  launch_objective(Launch{}, whole, *shape);
}

void zdce_objective_backward(const ObjectiveBackward* o, const ObjectiveShape* shape) {
  std::vector<float> slopes(grid_of(*shape).regions() + 3 * shape->batch + 2, std::numeric_limits<float>::quiet_NaN());
  ObjectiveBackward whole = *o;
  whole.grad_regions = slopes.data(), whole.grad_channels = whole.grad_regions + grid_of(*shape).regions();
  whole.grad_tv = whole.grad_channels + 3 * shape->batch;
  launch_objective(Launch{}, whole, *shape);
}

// The second kernel of forward alone, on partials (5, B, tiles) that the caller made.
void zdce_objective_terms(const ObjectiveForward* o, int64_t tiles, const ObjectiveShape* shape) {
  std::vector<double> sums(objective_sums(*shape), std::numeric_limits<double>::quiet_NaN());
  unsigned arrived = 0;
  ObjectiveForward whole = *o;
  whole.sums = sums.data(), whole.arrived = &arrived;
  Launch{}(objective_terms<>, 3 * shape->batch + 2 + region_blocks(*shape), kSumThreads, whole, tiles, *shape);
}

// Strips of a block, blocks of a processor, bytes of a block's shared memory, columns and columns of results, the
// kernel's most tiles, and rows of a block for pictures of that size: 0, or 1 where it does not run the network.
int zdce_network_layout(const int64_t* plan, int64_t length, bool eight_bits, const GpuLimits* gpu, int height,
                        int width, int* found) {
  try {
    const auto [fused, together, rows] = laid_out(zdce::read_plan(plan, length), eight_bits, 1, height, width, *gpu);
    found[0] = fused.strips, found[1] = together, found[2] = fused.shared_bytes;
    found[3] = fused.columns(), found[4] = fused.results(), found[5] = most_tiles(fused);
    found[6] = rows;
  } catch (const Unfit&) {
    return 1;
  }
  return 0;
}

// Matrices of which two rows lay in one bank when they were loaded, since the library was.
int64_t zdce_bank_conflicts() { return cuda_on_host::bank_conflicts; }

// 0, or 1 where the kernel does not run the network. job: its views, weights and size.
int zdce_run_network(const int64_t* plan, int64_t length, const NetworkJob* job, int64_t batch, bool half,
                     const GpuLimits* gpu) {
  try {
    const zdce::Network network = zdce::read_plan(plan, length);
    if (half) {
      launch_network<__half>(Launch{}, network, *job, batch, *gpu);
    } else {
      launch_network<__nv_bfloat16>(Launch{}, network, *job, batch, *gpu);
    }
  } catch (const std::runtime_error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
}
