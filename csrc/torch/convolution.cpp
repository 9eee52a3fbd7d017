// convolution: 3x3 convolutions that are trained.

#include <optional>
#include <vector>

#include "tensors.h"

namespace zdce {
namespace {

Products products(bool bfloat16) { return bfloat16 ? Products::kBFloat16 : Products::kFloat; }

Features features(const std::vector<Tensor>& tensors, const char* name) {
  Features all;
  for (const Tensor& tensor : tensors) all.push_back(planes(tensor, name));
  return all;
}

// sources: (B, C_i, H, W) each; weight: (O, sum of C_i, 3, 3); bias: (O,); result: (B, O, H, W), written. Feature maps
// are float32 or bfloat16 in memory, each by itself, parameters float32. With bf16_products, values may be rounded to
// bfloat16 before they are multiplied.
void convolve(const std::vector<Tensor> sources, const Tensor weight, const Tensor bias, bool rectified,
              bool bf16_products, const Tensor result) {
  const Features from = features(sources, "sources");
  const Planes to = planes(result, "result");
  const float* const filters = floats(weight, "weight", {to.channels, channels_of(from), 3, 3});
  convolution(from, filters, floats(bias, "bias", {to.channels}), rectified, products(bf16_products), to);
}

// grad: (B, O, H, W), of the output; output: the same shape and type, given where the convolution was rectified;
// sources: (B, C_i, H, W) each; weight: (O, sum of C_i, 3, 3). Written: grad_sources, as sources; grad_weight, as
// weight; grad_bias: (O,). Those without elements are not wanted, the latter two together.
void convolve_backward(const Tensor grad, const std::vector<Tensor> sources, const Tensor weight,
                       const std::optional<Tensor> output, bool bf16_products, const std::vector<Tensor> grad_sources,
                       const Tensor grad_weight, const Tensor grad_bias) {
  const Features from = features(sources, "sources");
  const Planes slopes = planes(grad, "grad");
  const int64_t outputs = slopes.channels, inputs = channels_of(from);
  std::optional<Planes> result;
  if (output) result = planes(*output, "output");
  Features to;
  for (const Tensor& tensor : grad_sources) {
    to.push_back(tensor.numel() > 0 ? planes(tensor, "grad_sources") : Planes{});
  }
  const bool parameters = grad_weight.numel() > 0;
  convolution_backward(slopes, from, floats(weight, "weight", {outputs, inputs, 3, 3}), result ? &*result : nullptr,
                       products(bf16_products), to,
                       parameters ? floats(grad_weight, "grad_weight", {outputs, inputs, 3, 3}) : nullptr,
                       parameters ? floats(grad_bias, "grad_bias", {outputs}) : nullptr);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("convolution", TORCH_BOX(&zdce::convolve));
  m.impl("convolution_backward", TORCH_BOX(&zdce::convolve_backward));
}
