// reduce_picture on the CPU: area means of an interleaved picture, which is read once, or bilinear samples of it. A
// task is one row of either.

#include <algorithm>
#include <vector>

#include "kernels.h"
#include "operations.h"
#include "parallel.h"

namespace zdce {
namespace {

// Column sums are exact for integers, and double for floats. An integer of twice the bits holds the sum of 2^bits + 1
// rows (257 * 255 = 65535), and twice as many of them fit into a vector as of the final sums.
template <class E>
struct Sums {
  using Narrow = double;
  using Wide = double;
  static constexpr int64_t kMostRows = int64_t{1} << 31;
};
template <>
struct Sums<uint8_t> {
  using Narrow = uint16_t;
  using Wide = uint64_t;
  static constexpr int64_t kMostRows = 257;
};
template <>
struct Sums<uint16_t> {
  using Narrow = uint32_t;
  using Wide = uint64_t;
  static constexpr int64_t kMostRows = 65537;
};

template <class E>
using Narrow = typename Sums<E>::Narrow;
template <class E>
using Wide = typename Sums<E>::Wide;

template <class E>
void reduce(const Picture& picture, int64_t scale, int64_t height, int64_t width, float* small) {
  const Kernels& set = kernels();
  const int64_t n = 3 * picture.width;
  parallel_for(height, 1, [&](int64_t begin, int64_t end) {
    std::vector<Narrow<E>> sums(n);
    std::vector<Wide<E>> areas(3 * width);
    for (int64_t y = begin; y < end; ++y) {
      const int64_t last = std::min((y + 1) * scale, picture.height);
      std::fill(areas.begin(), areas.end(), 0);
      for (int64_t row = y * scale; row < last; row += Sums<E>::kMostRows) {
        std::fill(sums.begin(), sums.end(), 0);
        set.add_rows(picture.element, picture.row(row), picture.row_stride * static_cast<int64_t>(sizeof(E)),
                     std::min(Sums<E>::kMostRows, last - row), n, sums.data());
        for (int64_t x = 0; x < width; ++x) {
          Wide<E> colors[3] = {};
          for (int64_t i = 3 * x * scale; i < std::min(3 * (x + 1) * scale, n); i += 3) {
            for (int c = 0; c < 3; ++c) colors[c] += sums[i + c];
          }
          for (int c = 0; c < 3; ++c) areas[3 * x + c] += colors[c];
        }
      }
      for (int64_t x = 0; x < width; ++x) {
        const int64_t columns = std::min((x + 1) * scale, picture.width) - x * scale;
        const double white = static_cast<double>(kWhite<E>) * static_cast<double>(columns * (last - y * scale));
        for (int c = 0; c < 3; ++c) {
          small[(c * height + y) * width + x] = static_cast<float>(static_cast<double>(areas[3 * x + c]) / white);
        }
      }
    }
  });
}

// Where sample i of a side reads: pixels `first` and `next`, at `weight` of the way between them; that is, at
// (i + 1/2) pixels / samples - 1/2. Fractions of whole numbers: no rounding moves a sample to another pixel.
struct Sample {
  int64_t first, next;
  float weight;
};

std::vector<Sample> samples(int64_t pixels, int64_t number) {
  std::vector<Sample> all;
  for (int64_t i = 0; i < number; ++i) {
    const int64_t at = (2 * i + 1) * pixels - number,
                  first = at / (2 * number);  // there are no more samples than pixels
    const float weight = static_cast<float>(static_cast<double>(at % (2 * number)) / static_cast<double>(2 * number));
    all.push_back({first, std::min(first + 1, pixels - 1), weight});
  }
  return all;
}

// Reads only the four pixels around each sample.
template <class E>
void sample(const Picture& picture, int64_t height, int64_t width, float* small) {
  const std::vector<Sample> rows = samples(picture.height, height), columns = samples(picture.width, width);
  parallel_for(height, 16, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      const E* const upper = reinterpret_cast<const E*>(picture.row(rows[y].first));
      const E* const lower = reinterpret_cast<const E*>(picture.row(rows[y].next));
      for (int64_t x = 0; x < width; ++x) {
        const Sample& column = columns[x];
        for (int c = 0; c < 3; ++c) {
          const auto between = [&](const E* row) {
            const float left = row[3 * column.first + c], right = row[3 * column.next + c];
            return left + column.weight * (right - left);
          };
          const float above = between(upper), below = between(lower);
          small[(c * height + y) * width + x] = (above + rows[y].weight * (below - above)) / kWhite<E>;
        }
      }
    }
  });
}

}  // namespace

void reduce_picture(const Picture& picture, int64_t scale, bool antialias, float* small) {
  check_scale(scale);
  check_interleaved(picture, "picture");
  const int64_t height = small_side(picture.height, scale), width = small_side(picture.width, scale);
  with_pixel(picture.element, [&](auto element) {
    using E = decltype(element);
    if (antialias) return reduce<E>(picture, scale, height, width, small);
    sample<E>(picture, height, width, small);
  });
}

}  // namespace zdce
