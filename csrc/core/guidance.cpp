// Maps that follow a picture's edges. zdce/models/guidance.py has the same for torch, with the sources and the reasons.

#include <algorithm>
#include <vector>

#include "luma.h"
#include "model.h"

namespace zdce {
namespace {

constexpr int64_t kRadius = 5;
constexpr float kEdge = 0.1f * 0.1f, kLit = Fall{}.start;
constexpr Fall kFallOfColors = {0.6f, 1};

using Plane = std::vector<float>;

// Each pixel the mean of its window; what lies beyond the border repeats the border's pixels.
Plane averaged(const Plane& plane, int64_t height, int64_t width) {
  constexpr float share = 1.0f / (2 * kRadius + 1);
  Plane across(plane.size()), result(plane.size());
  for (int64_t y = 0; y < height; ++y) {
    const float* const from = plane.data() + y * width;
    for (int64_t x = 0; x < width; ++x) {
      float sum = 0;
      for (int64_t i = x - kRadius; i <= x + kRadius; ++i) sum += from[std::clamp<int64_t>(i, 0, width - 1)];
      across[static_cast<size_t>(y * width + x)] = sum * share;
    }
  }
  for (int64_t y = 0; y < height; ++y) {
    float* const to = result.data() + y * width;
    for (int64_t i = y - kRadius; i <= y + kRadius; ++i) {
      const float* const from = across.data() + std::clamp<int64_t>(i, 0, height - 1) * width;
      for (int64_t x = 0; x < width; ++x) to[x] += from[x];
    }
    for (int64_t x = 0; x < width; ++x) to[x] *= share;
  }
  return result;
}

template <class F>
Plane combined(const Plane& one, const Plane& other, const F& function) {
  Plane result(one.size());
  std::transform(one.begin(), one.end(), other.begin(), result.begin(), function);
  return result;
}

float product(float one, float other) { return one * other; }

float risen(float value, Fall fall) { return std::clamp((value - fall.start) / (fall.end - fall.start), 0.0f, 1.0f); }

}  // namespace

std::vector<float> fit_guided_maps(const std::vector<float>& image, const std::vector<float>& maps, int64_t channels,
                                   int64_t height, int64_t width, double shadows, double highlights, Fall fall) {
  const size_t pixels = static_cast<size_t>(height * width);
  Plane lumas(pixels), target(pixels);
  for (size_t i = 0; i < pixels; ++i) {
    const float red = image[i], green = image[pixels + i], blue = image[2 * pixels + i];
    lumas[i] = luma(red, green, blue);
    for (size_t k = 0; k < static_cast<size_t>(channels); ++k) target[i] += maps[k * pixels + i];
    const float dark = std::max(1 - lumas[i] / kLit, 0.0f);
    const float lit = std::max(risen(lumas[i], fall), risen(std::max({red, green, blue}), kFallOfColors));
    target[i] *= (1 + static_cast<float>(shadows) * dark) * (1 - static_cast<float>(highlights) * lit);
    target[i] /= static_cast<float>(channels);
  }
  const Plane mean = averaged(lumas, height, width), target_mean = averaged(target, height, width);
  const Plane both = averaged(combined(lumas, target, product), height, width);
  const Plane square = averaged(combined(lumas, lumas, product), height, width);
  Plane slope(pixels), offset(pixels);
  for (size_t i = 0; i < pixels; ++i) {
    slope[i] = (both[i] - mean[i] * target_mean[i]) / (square[i] - mean[i] * mean[i] + kEdge);
    offset[i] = target_mean[i] - slope[i] * mean[i];
  }
  Plane coefficients = averaged(slope, height, width);
  const Plane offsets = averaged(offset, height, width);
  coefficients.insert(coefficients.end(), offsets.begin(), offsets.end());
  return coefficients;
}

}  // namespace zdce
