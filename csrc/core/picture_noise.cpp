// Noise of a picture, measured in the picture itself. zdce/ops/picture_noise.py has the same, and
// zdce/noise_constants.py the reasons of the constants.

#include <algorithm>
#include <cmath>
#include <vector>

#include "operations.h"

namespace zdce {
namespace {

constexpr int64_t kSide = 16, kMostBlocks = 20;
constexpr float kLevels = 255, kDarkest = 4, kBrightest = 250;
constexpr size_t kFewest = 8;
constexpr double kFlat = 0.2, kMost = 10;

// Mean squares of a block's finest details.
struct Details {
  double diagonal, others;
};

template <class E>
struct Block {
  // One of kSide x kSide pixels, in levels of 255.
  Block(const Picture& picture, int64_t top, int64_t left) {
    for (int64_t y = 0; y < kSide; ++y) {
      const E* const row = reinterpret_cast<const E*>(picture.row(top + y)) + left * picture.column_stride;
      for (int64_t x = 0; x < kSide; ++x) {
        for (int64_t c = 0; c < 3; ++c) {
          const E value = row[x * picture.column_stride + c * picture.channel_stride];
          const float level = static_cast<float>(value) * (kLevels / kWhite<E>);
          levels[c][y][x] = level, sum += level, most = std::max(most, level);
        }
      }
    }
  }

  bool counts() const { return sum / (3 * kSide * kSide) > kDarkest && most < kBrightest; }

  Details details() const {
    double diagonal = 0, others = 0;
    for (const auto& plane : levels) {
      for (int64_t y = 0; y < kSide; y += 2) {
        for (int64_t x = 0; x < kSide; x += 2) {
          const float a = plane[y][x], b = plane[y][x + 1], c = plane[y + 1][x], d = plane[y + 1][x + 1];
          const float both = (a - b - c + d) / 2, across = (a - b + c - d) / 2, down = (a + b - c - d) / 2;
          diagonal += both * both, others += (across * across + down * down) / 2;
        }
      }
    }
    constexpr double count = 3 * kSide * kSide / 4;
    return {diagonal / count, others / count};
  }

  float levels[3][kSide][kSide];
  double sum = 0;
  float most = 0;
};

int64_t step_of(int64_t side) { return std::max(kSide, (side - kSide) / (kMostBlocks - 1)); }

std::vector<Details> details_of(const Picture& picture) {
  std::vector<Details> all;
  with_pixel(picture.element, [&](auto element) {
    for (int64_t y = 0; y + kSide <= picture.height; y += step_of(picture.height)) {
      for (int64_t x = 0; x + kSide <= picture.width; x += step_of(picture.width)) {
        const Block<decltype(element)> block(picture, y, x);
        if (block.counts()) all.push_back(block.details());
      }
    }
  });
  return all;
}

}  // namespace

NoiseLevels measure_noise(const Picture& picture) {
  if (std::min(picture.height, picture.width) < kSide) return {};
  std::vector<Details> all = details_of(picture);
  if (all.size() < kFewest) return {};
  const size_t flat = std::max(kFewest, static_cast<size_t>(kFlat * static_cast<double>(all.size())));
  std::sort(all.begin(), all.end(), [](const Details& a, const Details& b) { return a.diagonal < b.diagonal; });
  double diagonal = 0, others = 0;
  for (size_t i = 0; i < flat; ++i) diagonal += all[i].diagonal, others += all[i].others;
  const auto deviation = [&](double sum) {
    return std::min(std::sqrt(std::max(sum / static_cast<double>(flat), 0.0)), kMost);
  };
  return {deviation(2 * diagonal - others), deviation(diagonal)};
}

}  // namespace zdce
