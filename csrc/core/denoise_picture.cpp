// The noise that a curve amplified, smoothed out of an enhanced picture along its edges.

#include <algorithm>

#include "kernels.h"
#include "operations.h"

namespace zdce {
namespace {

// A neighbour has no weight if its guide differs by twice the added noise. The chroma is blurred completely where the
// curve adds noise of two levels of 255. Colours of lit photographs are 25 levels from their luma, and the blur leaves
// an error of at most 1.4 levels.
constexpr double kCutoff = 2, kFullBlur = 2 / 255.0, kColor = 25 / 255.0, kColorError = 1.4 / 255;

}  // namespace

void denoise_picture(const Picture& picture, const Picture& enhanced, double noise, double grain,
                     const Picture& denoised) {
  check_interleaved(picture, "picture");
  check_same(picture, enhanced, "enhanced");
  check_same(picture, denoised, "denoised");
  if (!(noise >= 0 && noise < 1)) throw std::runtime_error("zdce: noise must be at least 0 and below 1");
  if (!(grain >= 0 && grain < 1)) throw std::runtime_error("zdce: grain must be at least 0 and below 1");
  grain = std::min(grain, noise);
  const double cutoff = 255 * kCutoff * noise, error = std::min(noise, kColorError) / kColor;
  kernels().denoise_picture({picture, enhanced, denoised, static_cast<float>(cutoff * cutoff),
                             static_cast<float>(noise / kFullBlur), static_cast<float>(error * error),
                             static_cast<float>(grain * grain)});
}

}  // namespace zdce
