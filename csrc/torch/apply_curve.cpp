// apply_curve: light-enhancement curves on images.

#include <optional>

#include "tensors.h"

namespace zdce {
namespace {

// image: (B, 3, P); maps: (B, 3 T or 3, P); enhanced: (B, 3, P), written.
void apply_curve(const Tensor image, const Tensor maps, int64_t iterations, const Tensor enhanced) {
  const Planes i = planes(image, "image", 3), m = planes(maps, "maps", 3), e = planes(enhanced, "enhanced", 3);
  check_curve(i, m, "maps", iterations);
  check_shape(e, "enhanced", i.batch, 3, 1, i.width);
  kernels().apply_curve(i, m, static_cast<int>(iterations), e);
}

// grad, image: (B, 3, P); maps: (B, 3 T or 3, P); grad_image, grad_maps: as image and maps, written where given.
void apply_curve_backward(const Tensor grad, const Tensor image, const Tensor maps, int64_t iterations,
                          const std::optional<Tensor> grad_image, const std::optional<Tensor> grad_maps) {
  const Planes g = planes(grad, "grad", 3), i = planes(image, "image", 3), m = planes(maps, "maps", 3);
  check_curve(i, m, "maps", iterations);
  check_shape(g, "grad", i.batch, 3, 1, i.width);
  std::optional<Planes> gi, gm;
  if (grad_image) check_shape(gi.emplace(planes(*grad_image, "grad_image", 3)), "grad_image", i.batch, 3, 1, i.width);
  if (grad_maps)
    check_shape(gm.emplace(planes(*grad_maps, "grad_maps", 3)), "grad_maps", m.batch, m.channels, 1, m.width);
  kernels().apply_curve_backward(g, i, m, static_cast<int>(iterations), gi ? &*gi : nullptr, gm ? &*gm : nullptr);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("apply_curve", TORCH_BOX(&zdce::apply_curve));
  m.impl("apply_curve_backward", TORCH_BOX(&zdce::apply_curve_backward));
}
