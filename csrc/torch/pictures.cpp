// Operations on interleaved pictures.

#include <algorithm>
#include <optional>

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

// picture: (H, W, 3); maps: (1, 3 T, 3 or, guided ones, 2, ceil(H / scale), ceil(W / scale)); factor: of the strength,
// one float; enhanced: (H, W, 3), written.
void enhance(const Tensor picture_tensor, const Tensor maps, int64_t iterations, int64_t scale, bool align_corners,
             double strength, bool logits, const std::optional<Tensor> factor, const Tensor enhanced) {
  if (factor) strength *= static_cast<double>(*floats(*factor, "factor", {1}));
  enhance_picture(picture(picture_tensor, "picture"), planes(maps, "maps"), iterations, scale, align_corners, strength,
                  logits, picture(enhanced, "enhanced"));
}

// picture, enhanced: (H, W, 3); levels: noise and grain as fractions of white, two doubles; denoised: (H, W, 3),
// written, other memory than the two.
void denoise(const Tensor picture_tensor, const Tensor enhanced, const Tensor levels, const Tensor denoised) {
  const auto* const of = static_cast<const double*>(grid(levels, "levels", Element::kDouble, {2}));
  denoise_picture(picture(picture_tensor, "picture"), picture(enhanced, "enhanced"), of[0], of[1],
                  picture(denoised, "denoised"));
}

// picture: (H, W, 3); levels: its noise, at least `least`, and its grain, written, as above.
void measure(const Tensor picture_tensor, double least, const Tensor levels) {
  auto* const to = static_cast<double*>(grid(levels, "levels", Element::kDouble, {2}));
  const NoiseLevels found = measure_noise(picture(picture_tensor, "picture"));
  to[0] = std::max(found.noise / 255, least), to[1] = found.grain / 255;
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("reduce_picture", TORCH_BOX(&zdce::reduce));
  m.impl("enhance_picture", TORCH_BOX(&zdce::enhance));
  m.impl("denoise_picture", TORCH_BOX(&zdce::denoise));
  m.impl("picture_noise", TORCH_BOX(&zdce::measure));
}
