// apply_curve's CUDA kernels as operators of torch.

#include <optional>

#include "apply_curve.cuh"
#include "launch.cuh"

namespace zdce::cuda {
namespace {

Planes curve_view(const Tensor& tensor, const char* name, const Tensor& image, int64_t channels) {
  return view(tensor, name, image,
              {{image.size(0), &Planes::batch}, {channels, &Planes::channel}, {image.size(2), &Planes::pixel}});
}

CurveShape curve_shape(const Tensor& image, const Tensor& maps, int64_t iterations) {
  if (image.dim() != 3 || maps.dim() != 3) refuse("image and maps must be of shape (B, C, P)");
  check_steps(maps.size(1), iterations);
  return {image.size(0), image.size(2), static_cast<int>(iterations), maps.size(1) == 3};
}

// image: (B, 3, P); maps: (B, 3 T or 3, P); enhanced: (B, 3, P), written.
void apply_curve(const Tensor image, const Tensor maps, int64_t iterations, const Tensor enhanced) {
  const CurveShape shape = curve_shape(image, maps, iterations);
  launch_apply_curve(Launch(image), curve_view(image, "image", image, 3), curve_view(maps, "maps", image, maps.size(1)),
                     curve_view(enhanced, "enhanced", image, 3), shape);
}

// grad, image: (B, 3, P); maps: (B, 3 T or 3, P); grad_image, grad_maps: as image and maps, written where given.
void apply_curve_backward(const Tensor grad, const Tensor image, const Tensor maps, int64_t iterations,
                          const std::optional<Tensor> grad_image, const std::optional<Tensor> grad_maps) {
  const CurveShape shape = curve_shape(image, maps, iterations);
  const Planes m = curve_view(maps, "maps", image, maps.size(1));
  const Planes gi = grad_image ? curve_view(*grad_image, "grad_image", image, 3) : Planes{};
  const Planes gm = grad_maps ? curve_view(*grad_maps, "grad_maps", image, maps.size(1)) : Planes{};
  if (grad_maps && gm.type != m.type) refuse("grad_maps must have the type of maps");
  launch_apply_curve_backward(Launch(image), curve_view(grad, "grad", image, 3), curve_view(image, "image", image, 3),
                              m, gi, gm, shape);
}

}  // namespace
}  // namespace zdce::cuda

STABLE_TORCH_LIBRARY_IMPL(zdce_cuda, CUDA, m) {
  m.impl("apply_curve", TORCH_BOX(&zdce::cuda::apply_curve));
  m.impl("apply_curve_backward", TORCH_BOX(&zdce::cuda::apply_curve_backward));
}
