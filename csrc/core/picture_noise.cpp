// Noise of a picture, measured in the picture itself. zdce/ops/picture_noise.py has the same, and
// zdce/noise_constants.py the reasons of the constants.

#include <algorithm>
#include <cmath>
#include <vector>

#include "operations.h"

namespace zdce {
namespace {

// As in zdce/noise_constants.py, where the reasons are.
constexpr int64_t kBlockSide = 16, kBlocksAcross = 20;
constexpr float kLevels = 255, kDarkest = 4, kBrightest = 250;
constexpr size_t kFewestBlocks = 8, kBlocksPerFlat = 5;
constexpr double kMostNoise = 10;

// Mean squares of a block's finest details.
struct Details {
  double diagonal, others;
};

template <class E>
struct Block {
  // One of kBlockSide x kBlockSide pixels, in levels of 255.
  Block(const Picture& picture, int64_t top, int64_t left) {
    for (int64_t y = 0; y < kBlockSide; ++y) {
      const E* const row = reinterpret_cast<const E*>(picture.row(top + y)) + left * picture.column_stride;
      for (int64_t x = 0; x < kBlockSide; ++x) {
        for (int64_t c = 0; c < 3; ++c) {
          const E value = row[x * picture.column_stride + c * picture.channel_stride];
          const float level = static_cast<float>(value) * (kLevels / kWhite<E>);
          levels[c][y][x] = level, sum += level, most = std::max(most, level);
        }
      }
    }
  }

  bool counts() const { return sum / (3 * kBlockSide * kBlockSide) > kDarkest && most < kBrightest; }

  Details details() const {
    double diagonal = 0, others = 0;
    for (const auto& plane : levels) {
      for (int64_t y = 0; y < kBlockSide; y += 2) {
        for (int64_t x = 0; x < kBlockSide; x += 2) {
          const float a = plane[y][x], b = plane[y][x + 1], c = plane[y + 1][x], d = plane[y + 1][x + 1];
          const float both = (a - b - c + d) / 2, across = (a - b + c - d) / 2, down = (a + b - c - d) / 2;
          diagonal += both * both, others += (across * across + down * down) / 2;
        }
      }
    }
    constexpr double count = 3 * kBlockSide * kBlockSide / 4;
    return {diagonal / count, others / count};
  }

  float levels[3][kBlockSide][kBlockSide];
  double sum = 0;
  float most = 0;
};

int64_t step_of(int64_t side) { return std::max(kBlockSide, (side - kBlockSide) / (kBlocksAcross - 1)); }

std::vector<Details> details_of(const Picture& picture) {
  std::vector<Details> all;
  with_pixel(picture.element, [&](auto element) {
    for (int64_t y = 0; y + kBlockSide <= picture.height; y += step_of(picture.height)) {
      for (int64_t x = 0; x + kBlockSide <= picture.width; x += step_of(picture.width)) {
        const Block<decltype(element)> block(picture, y, x);
        if (block.counts()) all.push_back(block.details());
      }
    }
  });
  return all;
}

}  // namespace

NoiseLevels measure_noise(const Picture& picture) {
  if (std::min(picture.height, picture.width) < kBlockSide) return {};
  std::vector<Details> all = details_of(picture);
  if (all.size() < kFewestBlocks) return {};
  const size_t flat = std::max(kFewestBlocks, all.size() / kBlocksPerFlat);
  std::sort(all.begin(), all.end(), [](const Details& a, const Details& b) { return a.diagonal < b.diagonal; });
  double diagonal = 0, others = 0;
  for (size_t i = 0; i < flat; ++i) diagonal += all[i].diagonal, others += all[i].others;
  const auto deviation = [&](double sum) {
    return std::min(std::sqrt(std::max(sum / static_cast<double>(flat), 0.0)), kMostNoise);
  };
  return {deviation(2 * diagonal - others), deviation(diagonal)};
}

}  // namespace zdce
