// Operations on interleaved pictures, and a whole network on one.

#include "../core/pack.h"
#include "tensors.h"

namespace zdce {
namespace {

// picture: (H, W, 3); small: (1, 3, ceil(H / scale), ceil(W / scale)), written: means, or without antialiasing samples.
void reduce(const Tensor picture_tensor, int64_t scale, bool antialias, const Tensor small) {
  const Picture p = picture(picture_tensor, "picture");
  check_scale(scale);
  float* const to = floats(small, "small", {1, 3, small_side(p.height, scale), small_side(p.width, scale)});
  reduce_picture(p, scale, antialias, to);
}

// picture: (H, W, 3); maps: (1, 3 T or 3, ceil(H / scale), ceil(W / scale)); enhanced: (H, W, 3), written.
void enhance(const Tensor picture_tensor, const Tensor maps, int64_t iterations, int64_t scale, bool align_corners,
             double strength, bool logits, const Tensor enhanced) {
  enhance_picture(picture(picture_tensor, "picture"), planes(maps, "maps"), iterations, scale, align_corners, strength,
                  logits, picture(enhanced, "enhanced"));
}

// picture, enhanced: (H, W, 3); denoised: (H, W, 3), written, other memory than the two.
void denoise(const Tensor picture_tensor, const Tensor enhanced, double noise, const Tensor denoised) {
  denoise_picture(picture(picture_tensor, "picture"), picture(enhanced, "enhanced"), noise,
                  picture(denoised, "denoised"));
}

Network network_of(const Tensor& plan) {
  if (plan.scalar_type() != ScalarType::Long || !plan.is_contiguous() || plan.dim() != 1) {
    throw std::runtime_error("zdce: plan must be int64 (N,)");
  }
  return read_plan(static_cast<const int64_t*>(plan.data_ptr()), plan.numel());
}

// plan: (N,), as read_plan takes it; gives the length of the packed weights.
int64_t packed_size(const Tensor plan) { return packed_floats(network_of(plan)); }

// parameters: (P,), all of the network's in order; packed: (packed_size(plan),), written.
void pack_network(const Tensor parameters, const Tensor plan, const Tensor packed) {
  const Network network = network_of(plan);
  pack(network, floats(parameters, "parameters", {parameter_floats(network)}),
       floats(packed, "packed", {packed_floats(network)}));
}

// picture: (H, W, 3), uint8, uint16 or float32, with any strides. result: written; as picture, or with `maps` the curve
// maps (C, H, W), float32. plan: (N,); packed: as pack_network gives it.
void run(const Tensor picture_tensor, const Tensor plan, const Tensor packed, double strength, bool maps,
         const Tensor result) {
  Network network = network_of(plan);
  place_weights(network, floats(packed, "packed", {packed_floats(network)}));
  const Picture from = picture(picture_tensor, "picture");
  if (!maps) return run_network(network, from, strength, maps, picture(result, "result"));
  if (!result.is_cpu() || result.dim() != 3 || result.size(0) != network.maps) {
    throw std::runtime_error("zdce: result must be (C, H, W) for maps");
  }
  const Picture to{result.data_ptr(), element_of(result), result.size(1),  result.size(2),
                   result.stride(1),  result.stride(2),   result.stride(0)};
  run_network(network, from, strength, maps, to);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("reduce_picture", TORCH_BOX(&zdce::reduce));
  m.impl("enhance_picture", TORCH_BOX(&zdce::enhance));
  m.impl("denoise_picture", TORCH_BOX(&zdce::denoise));
  m.impl("packed_size", TORCH_BOX(&zdce::packed_size));
  m.impl("pack_network", TORCH_BOX(&zdce::pack_network));
  m.impl("run_network", TORCH_BOX(&zdce::run));
}
