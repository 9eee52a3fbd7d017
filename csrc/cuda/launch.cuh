// From torch's tensors to the kernels' views of them, and onto the stream that torch calculates on.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "planes.cuh"

namespace zdce::cuda {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

[[noreturn]] inline void refuse(const std::string& what) { throw std::runtime_error("zdce: " + what); }

inline Type type_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return Type::kFloat;
    case ScalarType::Half:
      return Type::kHalf;
    case ScalarType::BFloat16:
      return Type::kBFloat16;
    default:
      refuse(std::string(name) + " must be float32, bfloat16 or float16");
  }
}

// An axis of a tensor: its expected size and where its stride belongs.
struct Axis {
  int64_t size;
  int64_t Planes::* stride;
};

// tensor: of these axes, any strides. Throws where its shape is another or it is not on `like`'s CUDA device.
inline Planes view(const Tensor& tensor, const char* name, const Tensor& like, std::initializer_list<Axis> axes) {
  Planes planes{tensor.data_ptr(), type_of(tensor, name), 0, 0, 0, 0};
  bool same = tensor.dim() == static_cast<int64_t>(axes.size());
  std::string expected;
  int64_t d = 0;
  for (const Axis& axis : axes) {
    same = same && tensor.size(d) == axis.size;
    // The stride of a single element says nothing and must not count against alignment.
    if (same && axis.size > 1) planes.*axis.stride = tensor.stride(d);
    expected += (d++ == 0 ? "" : ", ") + std::to_string(axis.size);
  }
  if (!same) {
    std::string got;
    for (d = 0; d < tensor.dim(); ++d) got += (d == 0 ? "" : ", ") + std::to_string(tensor.size(d));
    refuse(std::string(name) + " must be (" + expected + "), got (" + got + ")");
  }
  if (!tensor.is_cuda() || tensor.get_device_index() != like.get_device_index()) {
    refuse(std::string(name) + " must be on the CUDA device of the first tensor");
  }
  return planes;
}

// Throws where maps or logits with `channels` channels don't fit `iterations` steps.
inline void check_steps(int64_t channels, int64_t iterations) {
  if (iterations < 1 || iterations > kMaxIterations) {
    refuse("iterations must be 1 to " + std::to_string(kMaxIterations) + ", got " + std::to_string(iterations));
  }
  if (channels != 3 && channels != 3 * iterations) {
    refuse("maps must have 3 channels or 3 for each of " + std::to_string(iterations) + " iterations, got " +
           std::to_string(channels));
  }
}

// Starts kernels on a tensor's device and torch's current stream there.
class Launch {
 public:
  explicit Launch(const Tensor& like) : guard_(like.get_device_index()) {
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), int64_t blocks, int threads, const Arguments&... arguments) const {
    start(kernel, blocks, threads, 0, arguments...);
  }

  // With so many bytes of dynamic shared memory for each block, and of a processor's shared memory so many hundredths
  // for all of its blocks.
  template <class... Parameters, class... Arguments>
  void with_shared(void (*kernel)(Parameters...), int64_t blocks, int threads, int bytes, int share,
                   const Arguments&... arguments) const {
    STD_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    STD_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, share));
    start(kernel, blocks, threads, bytes, arguments...);
  }

 private:
  template <class... Parameters, class... Arguments>
  void start(void (*kernel)(Parameters...), int64_t blocks, int threads, int bytes,
             const Arguments&... arguments) const {
    if (blocks == 0) return;  // an empty batch
    if (blocks > INT32_MAX) refuse("the tensors need more than 2^31 - 1 blocks");
    kernel<<<static_cast<unsigned>(blocks), threads, bytes, stream_>>>(arguments...);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace zdce::cuda
