// Curve maps on a picture.

#include <algorithm>

#include "kernels.h"
#include "operations.h"

namespace zdce {
namespace {

// Copies of the last pixel follow a row, as many as a block may read beyond it.
constexpr int64_t kBehind = 64;

// Source coordinates are (i + 1/2) / scale - 1/2, clamped to the border, or with aligned corners
// i (maps - 1) / (pixels - 1): fractions of whole numbers, so that no rounding moves a sample across a map's pixel.
Axis axis(int64_t pixels, int64_t maps, int64_t scale, bool align_corners) {
  Axis axis{std::vector<int>(pixels + kBehind), std::vector<float>(pixels + kBehind)};
  const int64_t factor = align_corners ? maps - 1 : 2, offset = align_corners ? 0 : 1 - scale;
  const int64_t divisor = align_corners ? std::max<int64_t>(1, pixels - 1) : 2 * scale;
  for (int64_t i = 0; i < pixels + kBehind; ++i) {
    const int64_t at = std::max<int64_t>(0, factor * std::min(i, pixels - 1) + offset);
    axis.first[i] = static_cast<int>(at / divisor);
    axis.weight[i] = static_cast<float>(static_cast<double>(at % divisor) / static_cast<double>(divisor));
  }
  return axis;
}

}  // namespace

void enhance_picture(const Picture& picture, const Planes& maps, int64_t iterations, int64_t scale, bool align_corners,
                     double strength, bool logits, const Picture& enhanced) {
  check_scale(scale);
  check_iterations(iterations);
  check_interleaved(picture, "picture");
  check_same(picture, enhanced, "enhanced");
  const bool shared = maps.channels == 3 || (maps.channels == kGuidedMaps && !logits);
  check_shape(maps, "maps", 1, shared ? maps.channels : 3 * iterations, small_side(picture.height, scale),
              small_side(picture.width, scale));
  if (maps.element == Element::kDouble) throw std::runtime_error("zdce: maps must be float32, bfloat16 or float16");
  kernels().enhance_picture({picture, enhanced, maps, static_cast<int>(iterations), scale > 1, logits,
                             static_cast<float>(strength), axis(picture.height, maps.height, scale, align_corners),
                             axis(picture.width, maps.width, scale, align_corners)});
}

}  // namespace zdce
