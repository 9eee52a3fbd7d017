// How strong a scene's curve has to be: a strength for its maps that brings dark scenes to a brightness, and no others.
// zdce/models/scene.py and guided_scene.py have the same for torch.

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels.h"
#include "luma.h"
#include "model.h"
#include "operations.h"

namespace zdce {
namespace {

// The constants of zdce/scene_constants.py, which has their reasons; kWhiteLevel is WHITE.
constexpr int64_t kSide = 64, kPixels = kSide * kSide;
constexpr float kBlack = 2.5 / 255, kWhiteLevel = 254.5 / 255;
constexpr double kReferenceMean = 0.05, kHighestTarget = 0.5, kClippedShare = 0.003, kMeaningfulShare = 0.05;

constexpr double kHighestStrength = 2, kTargetExponent = 0.4, kDarkBelow = 0.4, kLitAbove = 0.9, kFullShare = 0.75;
constexpr int kHalvings = 15;

constexpr double kLitHalf = 0.16, kBacklit = 0.3, kNightShare = 0.6, kShadowShare = 0.8;
constexpr double kHighestGuidedStrength = 4, kGuidedTargetExponent = 0.2, kBrighterHalf = 0.58,
                 kBrighterHalfDeviation = 0.125, kBalance = 0.43 / 0.38, kWhollyDark = 0.875, kNightFrom = 0.9,
                 kNightBelow = 0.7, kHalfBlack = 0.5, kNightStops = 2 / 3.0, kLampsFrom = 4.9, kLamps = 5.3,
                 kBlackStops = 9, kDimStops = 7, kTargetShare = 0.65, kLeastLight = 1e-6;
constexpr float kShortestFall = 0.1f;
constexpr int64_t kBrightest = kPixels / 1000, kLongest = 8192;
constexpr int kGuidedHalvings = 16;

using Thumbnail = std::vector<float>;  // (3, kSide, kSide) in [0, 1]: single pixels or area means

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

// Linear light of sRGB, and the inverse (IEC 61966-2-1).
double light_of(double srgb) { return srgb <= 0.04045 ? srgb / 12.92 : std::pow((srgb + 0.055) / 1.055, 2.4); }
double srgb_of(double light) { return light <= 0.0031308 ? 12.92 * light : 1.055 * std::pow(light, 1 / 2.4) - 0.055; }

double mean(const Thumbnail& image) {
  double sum = 0;
  for (const float value : image) sum += value;
  return static_cast<float>(sum / static_cast<double>(image.size()));
}

double clipped(const Thumbnail& image) {
  int64_t number = 0;
  for (int64_t i = 0; i < kPixels; ++i) number += brightest(image, i) >= kWhiteLevel;
  return static_cast<double>(number) / kPixels;
}

struct Goal {
  double mean, clipped;
  bool visible;  // some pixels are more than black
};

Goal goal_of(const Thumbnail& image, double brightness) {
  int64_t seen = 0;
  double sum = 0;
  for (int64_t i = 0; i < kPixels; ++i) {
    if (!(brightest(image, i) > kBlack)) continue;
    const size_t at = static_cast<size_t>(i);
    ++seen, sum += (image[at] + image[at + kPixels] + image[at + 2 * kPixels]) / 3;
  }
  const double share = static_cast<double>(seen) / kPixels, given = mean(image);
  const double own = sum / static_cast<double>(std::max<int64_t>(seen, 1));
  const double dark = std::clamp((kLitAbove * brightness - own) / ((kLitAbove - kDarkBelow) * brightness), 0.0, 1.0) *
                      std::min(share / kMeaningfulShare, 1.0);
  const double wanted =
      std::min(brightness * std::pow(own / kReferenceMean, kTargetExponent), std::max(brightness, kHighestTarget)) *
      std::min(share / kFullShare, 1.0);
  return {static_cast<float>(given + dark * (wanted - given)), clipped(image) + kClippedShare, seen > 0};
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

// The largest strength of maps (C, kSide, kSide) with which the enhanced image keeps to a goal, by halving.
template <class F>
double found_strength(const Model& model, Thumbnail image, const std::vector<float>& maps, double most, int steps,
                      const F& keeps) {
  std::vector<float> scaled(maps.size());
  Thumbnail enhanced(image.size());
  double found = 0, step = most;
  for (int i = 0; i < steps; ++i) {
    const double tried = found + (step /= 2);
    std::transform(maps.begin(), maps.end(), scaled.begin(),
                   [tried](float map) { return std::clamp(map * static_cast<float>(tried), -1.0f, 1.0f); });
    kernels().apply_curve(planes_of(image), planes_of(scaled), model.network().iterations, planes_of(enhanced));
    if (keeps(enhanced)) found = tried;
  }
  return found;
}

// Area means of an image (channels, height, width), (channels, kSide, kSide).
std::vector<float> area_thumbnail(const std::vector<float>& image, int64_t channels, int64_t height, int64_t width) {
  // In units of 1 / kSide pixels, whole numbers: pixel i from i kSide to (i + 1) kSide, interval j from j side to
  // (j + 1) side.
  const auto overlap = [](int64_t i, int64_t j, int64_t side) {
    const int64_t end = std::min((i + 1) * kSide, (j + 1) * side), begin = std::max(i * kSide, j * side);
    return static_cast<double>(std::max<int64_t>(end - begin, 0)) / static_cast<double>(side);
  };
  std::vector<double> across(static_cast<size_t>(channels * height * kSide));
  for (int64_t y = 0; y < channels * height; ++y) {
    for (int64_t j = 0; j < kSide; ++j) {
      double& sum = across[static_cast<size_t>(y * kSide + j)];
      for (int64_t i = j * width / kSide; i < width && i * kSide < (j + 1) * width; ++i) {
        sum += overlap(i, j, width) * static_cast<double>(image[static_cast<size_t>(y * width + i)]);
      }
    }
  }
  std::vector<float> small(static_cast<size_t>(channels * kPixels));
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j < kSide; ++j) {
      for (int64_t x = 0; x < kSide; ++x) {
        double sum = 0;
        for (int64_t i = j * height / kSide; i < height && i * kSide < (j + 1) * height; ++i) {
          sum += overlap(i, j, height) * across[static_cast<size_t>((c * height + i) * kSide + x)];
        }
        small[static_cast<size_t>(c * kPixels + j * kSide + x)] = static_cast<float>(sum);
      }
    }
  }
  return small;
}

float luma_of(const Thumbnail& image, size_t i) { return luma(image[i], image[i + kPixels], image[i + 2 * kPixels]); }

double weighted_luma(const Thumbnail& image, const std::vector<double>& weights) {
  double sum = 0, count = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i] * static_cast<double>(luma_of(image, i)), count += weights[i];
  }
  return count > 0 ? sum / count : 0;
}

// Of pixels that each count their weight: the darkest whole ones that together count half, others 0.
std::vector<double> darker_half_of(const Thumbnail& image, const std::vector<double>& weights) {
  std::vector<std::pair<float, size_t>> ascending;
  double all = 0, below = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const float luma = luma_of(image, i);
    ascending.emplace_back(luma == luma ? luma : 0.0f, i), all += weights[i];  // sorting needs numbers
  }
  std::sort(ascending.begin(), ascending.end());
  std::vector<double> result(weights.size());
  for (const auto& [luma, i] : ascending) {
    if (below < all / 2) result[i] = weights[i];
    below += weights[i];
  }
  return result;
}

}  // namespace

double scene_strength(const Model& model, const Picture& picture, double brightness) {
  if (brightness == 0) return 1;
  Thumbnail image = thumbnail(picture);
  const Goal goal = goal_of(image, brightness);
  if (!goal.visible) return 0;
  std::vector<float> maps(static_cast<size_t>(model.network().maps * kPixels));
  const Picture small{image.data(), Element::kFloat, kSide, kSide, kSide, 1, kPixels};
  run_network(model.network(), small, 1, true, {maps.data(), Element::kFloat, kSide, kSide, kSide, 1, kPixels});
  return found_strength(model, image, maps, kHighestStrength, kHalvings, [&goal](const Thumbnail& enhanced) {
    return mean(enhanced) <= goal.mean && clipped(enhanced) <= goal.clipped;
  });
}

double Scene::backlit() const { return std::clamp(1 - (kBrighterHalf - brighter) / kBrighterHalfDeviation, 0.0, 1.0); }

double Scene::night() const {
  const double black = (kNightFrom - share) / (kNightFrom - kNightBelow);
  const double half_black = (kNightShare - share) / (kNightShare - kHalfBlack);
  const double lit = 1 - (kBrighterHalf - brightest) / kBrighterHalfDeviation;
  const double stops = std::log2(std::max(light_of(brightest) / std::max(light_of(brighter), kLeastLight), 1.0));
  const double lamps = (stops - kLampsFrom) / (kLamps - kLampsFrom);
  return std::clamp(lit, 0.0, 1.0) *
         std::max(std::clamp(black, 0.0, 1.0) * std::clamp(lamps, 0.0, 1.0), std::clamp(half_black, 0.0, 1.0));
}

std::vector<float> Scene::shown(const std::vector<float>& small) const {
  const double light = light_of(brightest);
  const float black = static_cast<float>(srgb_of(light * std::exp2(-kBlackStops))),
              dim = static_cast<float>(srgb_of(light * std::exp2(-kDimStops))), dark = static_cast<float>(night()),
              range = std::max(dim - black, static_cast<float>(kLeastLight));
  const size_t pixels = small.size() / 3;
  std::vector<float> factors(pixels);
  for (size_t i = 0; i < pixels; ++i) {
    const float value = std::max({small[i], small[pixels + i], small[2 * pixels + i]});
    factors[i] = 1 - dark * std::clamp((dim - value) / range, 0.0f, 1.0f);
  }
  return factors;
}

Fall Scene::fall() const {
  const auto moved = [share_of_own = std::max(backlit(), night())](float usual, double own) {
    return static_cast<float>(usual + share_of_own * (own - usual));
  };
  const float start = moved(Fall{}.start, darker);
  return {start, std::max(moved(Fall{}.end, brighter), start + kShortestFall)};
}

int64_t scene_scale(int64_t height, int64_t width, int64_t scale) {
  const auto [shorter, longer] = std::minmax(height, width);
  return std::min(scale, std::max({int64_t{1}, shorter / (2 * kSide), longer / kLongest}));
}

Scene read_scene(const std::vector<float>& small, int64_t height, int64_t width) {
  Scene scene;
  scene.image = area_thumbnail(small, 3, height, width);
  const Thumbnail& image = scene.image;
  std::vector<float> values(kPixels);
  for (int64_t i = 0; i < kPixels; ++i) {
    const float value = brightest(image, i);
    values[static_cast<size_t>(i)] = value == value ? value : 0.0f;  // sorting needs numbers
  }
  std::partial_sort(values.begin(), values.begin() + kBrightest, values.end(), std::greater<float>());
  scene.brightest = std::accumulate(values.begin(), values.begin() + kBrightest, 0.0) / kBrightest;
  std::vector<double> weights(kPixels);
  double seen = 0, sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!(brightest(image, static_cast<int64_t>(i)) > kBlack)) continue;
    weights[i] = 1, ++seen;
    sum += (image[i] + image[i + kPixels] + image[i + 2 * kPixels]) / 3;
  }
  scene.share = seen / kPixels, scene.mean = sum / std::max(seen, 1.0);
  const double shadow = std::clamp((scene.share - kNightShare) / (kShadowShare - kNightShare), 0.0, 1.0);
  for (double& weight : weights) weight = std::max(weight, shadow);
  scene.darker_half = darker_half_of(image, weights);
  scene.darker = weighted_luma(image, scene.darker_half);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] -= scene.darker_half[i];
  scene.brighter = weighted_luma(image, weights);
  return scene;
}

double guided_scene_strength(const Model& model, const Scene& scene, const std::vector<float>& small,
                             const std::vector<float>& coefficients, int64_t height, int64_t width,
                             const Settings& settings) {
  const double lit = std::max(kLitHalf, kBacklit * scene.brighter);
  const double part = std::clamp((lit - scene.darker) / ((1 - kWhollyDark) * lit), 0.0, 1.0) *
                      std::min(scene.share / kMeaningfulShare, 1.0);
  if (part == 0) return 0;
  const double given = mean(scene.image);
  double target = std::min(settings.brightness * std::pow(scene.mean / kReferenceMean, kGuidedTargetExponent),
                           std::max(settings.brightness, kHighestTarget)) *
                  std::pow(std::min(scene.share / kTargetShare, 1.0), 3);
  target += scene.night() * (srgb_of(std::exp2(kNightStops) * light_of(given)) - target);
  const double balance = kBalance * settings.brightness * scene.brighter;
  const double highest = static_cast<float>(given + part * (1 - scene.backlit()) * (target - given));
  const double highest_darker =
      static_cast<float>(scene.darker + part * (1 + settings.shadows) * (balance - scene.darker));
  const double allowed = clipped(scene.image) + kClippedShare;

  const size_t pixels = static_cast<size_t>(height * width);
  std::vector<float> map(pixels), maps;
  for (size_t i = 0; i < pixels; ++i) {
    const float y = luma(small[i], small[pixels + i], small[2 * pixels + i]);
    map[i] = std::min(coefficients[i] * y + coefficients[pixels + i], 0.0f);
  }
  map = area_thumbnail(map, 1, height, width);
  for (int c = 0; c < 3; ++c) maps.insert(maps.end(), map.begin(), map.end());
  return found_strength(
      model, scene.image, maps, kHighestGuidedStrength, kGuidedHalvings, [&](const Thumbnail& enhanced) {
        return (mean(enhanced) <= highest || weighted_luma(enhanced, scene.darker_half) <= highest_darker) &&
               clipped(enhanced) <= allowed;
      });
}

}  // namespace zdce
