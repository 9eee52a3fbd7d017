// A whole network's CUDA kernel as an operator of torch.

#include <optional>

#include "../torch/element_of.h"
#include "launch.cuh"
#include "network.cuh"

namespace zdce::cuda {
namespace {

// tensor: (B, H, W, channels) of uint8, uint16 or float32, any strides.
Pixels pixels(const Tensor& tensor, const char* name, const Tensor& like, int64_t channels) {
  const bool same = tensor.dim() == 4 && tensor.size(0) == like.size(0) && tensor.size(1) == like.size(1) &&
                    tensor.size(2) == like.size(2) && tensor.size(3) == channels;
  if (!same)
    refuse(std::string(name) + " must be (B, H, W, " + std::to_string(channels) + ") of the pictures' B, H and W");
  if (!tensor.is_cuda() || tensor.get_device_index() != like.get_device_index()) {
    refuse(std::string(name) + " must be on the CUDA device of pictures");
  }
  const Element element = element_of(tensor);
  if (element != Element::kUint8 && element != Element::kUint16 && element != Element::kFloat) {
    refuse(std::string(name) + " must be uint8, uint16 or float32");
  }
  return {tensor.data_ptr(), element, tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.stride(3)};
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

GpuLimits limits(int device) {
  return {attribute(cudaDevAttrMultiProcessorCount, device), attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device)};
}

// pictures: (B, H, W, 3), uint8, uint16 or float32 in [0, 1]; weights: bfloat16 or float16, packed by
// zdce/models/fused_network.py for `plan` (read_plan of core/network.h), an int64 tensor on the CPU; biases: float32,
// with separable layers' depthwise filters; strengths: float32 (B,), factors of each picture's maps beside `strength`;
// results: as pictures or, with `to_maps`, (B, H, W, maps) of float32; written.
void run_network(const Tensor pictures, const Tensor weights, const Tensor biases, const Tensor plan, double strength,
                 const std::optional<Tensor> strengths, bool to_maps, const Tensor results) {
  const Network network = read_plan(static_cast<const int64_t*>(plan.data_ptr()), plan.numel());
  NetworkJob job{};
  if (pictures.dim() != 4) refuse("pictures must be (B, H, W, 3)");
  job.picture = pixels(pictures, "pictures", pictures, 3);
  job.result = pixels(results, "results", pictures, to_maps ? network.maps : 3);
  if (job.result.element != (to_maps ? Element::kFloat : job.picture.element)) {
    refuse("results must be of the pictures' type, maps of float32");
  }
  for (const Tensor* each : {&weights, &biases}) {
    const bool near = each->is_cuda() && each->get_device_index() == pictures.get_device_index();
    if (!near || !each->is_contiguous()) refuse("weights and biases must be contiguous, on the pictures' CUDA device");
  }
  job.weights = static_cast<const uint2*>(weights.data_ptr());
  job.biases = static_cast<const float*>(biases.data_ptr());
  job.height = static_cast<int>(pictures.size(1)), job.width = static_cast<int>(pictures.size(2));
  job.strength = static_cast<float>(strength), job.to_maps = to_maps;
  if (strengths) {
    const bool near = strengths->is_cuda() && strengths->get_device_index() == pictures.get_device_index();
    if (!near || !strengths->is_contiguous() || strengths->scalar_type() != ScalarType::Float ||
        strengths->numel() != pictures.size(0)) {
      refuse("strengths must be float32, one for each picture, on the pictures' CUDA device");
    }
    job.strengths = static_cast<const float*>(strengths->data_ptr());
  }
  const Launch launch(pictures);
  const GpuLimits gpu = limits(pictures.get_device_index());
  switch (weights.scalar_type()) {
    case ScalarType::Half:
      return launch_network<__half>(launch, network, job, pictures.size(0), gpu);
    case ScalarType::BFloat16:
      return launch_network<__nv_bfloat16>(launch, network, job, pictures.size(0), gpu);
    default:
      refuse("weights must be bfloat16 or float16");
  }
}

// Whether the kernel can run the network of `plan` on the GPU of `like`.
bool fits_network(const Tensor like, const Tensor plan) {
  try {
    const Network network = read_plan(static_cast<const int64_t*>(plan.data_ptr()), plan.numel());
    laid_out(network, false, 1, 1, 1, limits(like.get_device_index()));
    return true;
  } catch (const Unfit&) {
    return false;
  }
}

}  // namespace
}  // namespace zdce::cuda

STABLE_TORCH_LIBRARY_IMPL(zdce_cuda, CUDA, m) {
  m.impl("run_network", TORCH_BOX(&zdce::cuda::run_network));
  m.impl("fits_network", TORCH_BOX(&zdce::cuda::fits_network));
}
