// How strong a scene's curve has to be: a strength for its maps that brings dark scenes to a brightness, and no others.
// zdce/models/exposure.py has the same for torch, with the reasons of the constants.

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels.h"
#include "model.h"
#include "operations.h"

namespace zdce {
namespace {

// A thumbnail of single pixels, kSide x kSide.
constexpr int64_t kSide = 64, kPixels = kSide * kSide;

constexpr float kBlackLevel = 2.5 / 255, kWhiteLevel = 254.5 / 255;
constexpr double kUsual = 0.05, kKept = 0.4, kMiddle = 0.5, kDark = 0.4, kLit = 0.9, kMost = 2, kBurnt = 0.003,
                 kEnough = 0.05, kWhole = 0.75;
constexpr int kSteps = 15;

using Thumbnail = std::vector<float>;  // (3, kSide, kSide) in [0, 1]

template <class E>
float fraction(E value) {
  return static_cast<float>(value) / kWhite<E>;
}

Thumbnail thumbnail(const Picture& picture) {
  Thumbnail small(3 * kPixels);
  with_pixel(picture.element, [&](auto element) {
    using E = decltype(element);
    for (int64_t y = 0; y < kSide; ++y) {
      const E* const row = reinterpret_cast<const E*>(picture.row((2 * y + 1) * picture.height / (2 * kSide)));
      for (int64_t x = 0; x < kSide; ++x) {
        const E* const pixel = row + (2 * x + 1) * picture.width / (2 * kSide) * picture.column_stride;
        for (int64_t c = 0; c < 3; ++c) {
          small[static_cast<size_t>(c * kPixels + y * kSide + x)] = fraction(pixel[c * picture.channel_stride]);
        }
      }
    }
  });
  return small;
}

float brightest(const Thumbnail& image, int64_t i) {
  const size_t at = static_cast<size_t>(i);
  return std::max({image[at], image[at + kPixels], image[at + 2 * kPixels]});
}

double mean(const Thumbnail& image) {
  double sum = 0;
  for (const float value : image) sum += value;
  return static_cast<float>(sum / static_cast<double>(image.size()));
}

double burnt(const Thumbnail& image) {
  int64_t number = 0;
  for (int64_t i = 0; i < kPixels; ++i) number += brightest(image, i) >= kWhiteLevel;
  return static_cast<double>(number) / kPixels;
}

struct Goal {
  double mean, burnt;
  bool visible;  // some pixels are more than black
};

Goal goal_of(const Thumbnail& image, double brightness) {
  int64_t seen = 0;
  double sum = 0;
  for (int64_t i = 0; i < kPixels; ++i) {
    if (!(brightest(image, i) > kBlackLevel)) continue;
    const size_t at = static_cast<size_t>(i);
    ++seen, sum += (image[at] + image[at + kPixels] + image[at + 2 * kPixels]) / 3;
  }
  const double share = static_cast<double>(seen) / kPixels, given = mean(image);
  const double own = sum / static_cast<double>(std::max<int64_t>(seen, 1));
  const double dark =
      std::clamp((kLit * brightness - own) / ((kLit - kDark) * brightness), 0.0, 1.0) * std::min(share / kEnough, 1.0);
  const double wanted = std::min(brightness * std::pow(own / kUsual, kKept), std::max(brightness, kMiddle)) *
                        std::min(share / kWhole, 1.0);
  return {static_cast<float>(given + dark * (wanted - given)), burnt(image) + kBurnt, seen > 0};
}

Planes planes_of(std::vector<float>& data) {
  constexpr int64_t plane = kPixels * static_cast<int64_t>(sizeof(float));
  const int64_t channels = static_cast<int64_t>(data.size()) / kPixels;
  return {reinterpret_cast<char*>(data.data()),
          Element::kFloat,
          1,
          channels,
          1,
          kPixels,
          channels * plane,
          plane,
          0,
          sizeof(float)};
}

}  // namespace

double scene_strength(const Model& model, const Picture& picture, double brightness) {
  if (brightness == 0) return 1;
  Thumbnail image = thumbnail(picture);
  const Goal goal = goal_of(image, brightness);
  if (!goal.visible) return 0;
  std::vector<float> maps(static_cast<size_t>(model.network().maps * kPixels)), scaled(maps.size());
  Thumbnail enhanced(image.size());
  const Picture small{image.data(), Element::kFloat, kSide, kSide, kSide, 1, kPixels};
  run_network(model.network(), small, 1, true, {maps.data(), Element::kFloat, kSide, kSide, kSide, 1, kPixels});
  double found = 0, step = kMost;
  for (int i = 0; i < kSteps; ++i) {
    const double tried = found + (step /= 2);
    std::transform(maps.begin(), maps.end(), scaled.begin(),
                   [tried](float map) { return std::clamp(map * static_cast<float>(tried), -1.0f, 1.0f); });
    kernels().apply_curve(planes_of(image), planes_of(scaled), model.network().iterations, planes_of(enhanced));
    if (mean(enhanced) <= goal.mean && burnt(enhanced) <= goal.burnt) found = tried;
  }
  return found;
}

}  // namespace zdce
