// denoise_picture on the CPU: the noise that a curve amplified, smoothed out of an enhanced picture along its edges.
//
// uint8: 6 bytes read and 3 written a pixel. Arithmetic takes most of the time: 24 neighbours, 7 operations each,
// without exponentials or divisions.
#pragma once

#include "../luma.h"
#include "pixels.h"

namespace zdce::ZDCE_TARGET::denoise_picture {

constexpr int kReach = kDenoiseReach;
constexpr int kRadius = 2;  // of the averaged neighbours, and of the means that the curve's slope is estimated from
constexpr int kRing = 2 * kReach + 1;

// Gaussian weights: of the guide (standard deviation 0.8), the chroma (2), and the neighbours by their squared distance
// (1.2).
constexpr float kGuide[3] = {0.49911642f, 0.22851215f, 0.02192964f};
constexpr float kChroma[5] = {0.20416369f, 0.18017382f, 0.12383154f, 0.06628225f, 0.02763055f};
constexpr float kNear[9] = {1.0f, 0.70664828f, 0.49935179f, 0.0f, 0.24935221f, 0.17620431f, 0.0f, 0.0f, 0.06217652f};

// As in zdce/noise_constants.py, where the reasons are.
constexpr float kBlackTerm = 1e-3f, kFlatTerm = 1e-12f, kOwnWeight = 1e-6f, kBelowWhite = 254 / 255.0f;

// A tile writes 448 columns. It reads half a block more on either side, of which only kReach columns have an effect.
constexpr int kMargin = kBlockColumns / 2;
constexpr int kTileColumns = 7 * kBlockColumns;
constexpr int kLineColumns = kTileColumns + 2 * kMargin;
constexpr int kTileRows = 64;
constexpr int kLineFirst = 16;  // filters read kReach columns past both ends; rows begin on a cache line
constexpr int kLinePitch = kLineColumns + 2 * kLineFirst;

using Line = float[kLinePitch];

// Row y of each is at y modulo kRing.
struct Lines {
  alignas(64) Line luma[kRing], red[kRing], blue[kRing];   // colour minus luma
  alignas(64) Line guide_across[kRing], guide[kRing];      // smoothed along rows, then along columns, in levels of 255
  alignas(64) Line red_across[kRing], blue_across[kRing];  // likewise
  alignas(64) Line enhanced_sum[kRing], picture_sum[kRing];  // of luma, over 5 columns
  alignas(64) Line picture_luma[kRing], square_sum[kRing];   // of the picture's luma, likewise
  alignas(64) Line slope[kRing], averaged[kRing];            // of the curve; luma with less grain
};

// 0 for NaN.
ZDCE_INLINE Register positive(Register x) { return larger(x, Register{}); }
// NaN stays NaN.
ZDCE_INLINE Register at_most_one(Register x) { return smaller(Register{} + 1.0f, x); }

// from: kLineColumns pixels.
template <class E>
struct LumaOfRow {
  ZDCE_INLINE static void run(const char* from, float* to) {
    Row<E> row;
    for (int x = 0; x < kLineColumns; x += kBlockColumns) {
      row.unpack(from + 3 * x * sizeof(E));
      for (int g = 0; g < kBlockGroups; ++g) {
        store_register(to + kLineFirst + x + g * kRegisterLanes, luma(row.get(0, g), row.get(1, g), row.get(2, g)));
      }
    }
  }
};

template <class E>
struct ColorsOfRow {
  ZDCE_INLINE static void run(const char* from, float* light, float* red, float* blue) {
    Row<E> row;
    for (int x = 0; x < kLineColumns; x += kBlockColumns) {
      row.unpack(from + 3 * x * sizeof(E));
      for (int g = 0; g < kBlockGroups; ++g) {
        const int i = kLineFirst + x + g * kRegisterLanes;
        const Register r = row.get(0, g), b = row.get(2, g), l = luma(r, row.get(1, g), b);
        store_register(light + i, l);
        store_register(red + i, r - l);
        store_register(blue + i, b - l);
      }
    }
  }
};

template <int kTaps>
ZDCE_INLINE Register symmetric(const float (&weights)[kTaps], const float* from) {
  Register sum = weights[0] * load_register(from);
  for (int k = 1; k < kTaps; ++k) sum += weights[k] * (load_register(from - k) + load_register(from + k));
  return sum;
}

// rows: one pointer for each of 2 kTaps - 1 rows, top to bottom.
template <int kTaps>
ZDCE_INLINE Register symmetric(const float (&weights)[kTaps], const float* const* rows, int i) {
  Register sum = weights[0] * load_register(rows[kTaps - 1] + i);
  for (int k = 1; k < kTaps; ++k)
    sum += weights[k] * (load_register(rows[kTaps - 1 - k] + i) + load_register(rows[kTaps - 1 + k] + i));
  return sum;
}

struct FilterAcross {
  ZDCE_INLINE static void run(Lines* lines, int slot) {
    for (int i = kLineFirst; i < kLineFirst + kLineColumns; i += kRegisterLanes) {
      store_register(lines->guide_across[slot] + i, symmetric(kGuide, lines->luma[slot] + i));
      store_register(lines->red_across[slot] + i, symmetric(kChroma, lines->red[slot] + i));
      store_register(lines->blue_across[slot] + i, symmetric(kChroma, lines->blue[slot] + i));
      store_register(lines->enhanced_sum[slot] + i, of_five(lines->luma[slot] + i));
      const float* const before = lines->picture_luma[slot] + i;
      store_register(lines->picture_sum[slot] + i, of_five(before));
      store_register(lines->square_sum[slot] + i, square(before - 2) + square(before - 1) + square(before) +
                                                      square(before + 1) + square(before + 2));
    }
  }

  ZDCE_INLINE static Register square(const float* from) { return load_register(from) * load_register(from); }

  ZDCE_INLINE static Register of_five(const float* from) {
    return load_register(from - 2) + load_register(from - 1) + load_register(from) + load_register(from + 1) +
           load_register(from + 2);
  }
};

struct FilterGuideDown {
  ZDCE_INLINE static void run(const float* const* across, float* to) {
    for (int i = kLineFirst; i < kLineFirst + kLineColumns; i += kRegisterLanes)
      store_register(to + i, 255.0f * symmetric(kGuide, across, i));
  }
};

// A row of lumas and its sums over 5 x 1 pixels in the five rows around it, top to bottom.
struct Square {
  const float *enhanced_sum[2 * kRadius + 1], *picture_sum[2 * kRadius + 1], *square_sum[2 * kRadius + 1];
  const float *luma, *picture_luma;
};

// The curve's slope, and luma without the grain that Lee's filter takes from the picture, times the slope.
struct ReduceGrain {
  ZDCE_INLINE static void run(const Square* around, float grain, float* slopes, float* averaged) {
    for (int i = kLineFirst; i < kLineFirst + kLineColumns; i += kRegisterLanes) {
      const Register after = mean(around->enhanced_sum, i), before = mean(around->picture_sum, i);
      const Register slope = after * (1.0f - after) / (before * (1.0f - before) + kBlackTerm);
      const Register variance = positive(mean(around->square_sum, i) - before * before);
      const Register lost =
          grain / (variance + (grain + kFlatTerm)) * (load_register(around->picture_luma + i) - before);
      store_register(slopes + i, slope);
      // A comparison, not a factor of 0: means with a NaN change nothing.
      const Register amplified = slope > 1.0f ? at_most_one(slope - 1.0f) * slope * lost : Register{};
      store_register(averaged + i, load_register(around->luma + i) - amplified);
    }
  }

  ZDCE_INLINE static Register mean(const float* const* rows, int i) {
    return (load_register(rows[0] + i) + load_register(rows[1] + i) + load_register(rows[2] + i) +
            load_register(rows[3] + i) + load_register(rows[4] + i)) *
           (1 / 25.0f);
  }
};

// The rows that a row's result depends on: pointers to those of each kind, top to bottom.
struct Around {
  const float *averaged[2 * kRadius + 1], *guide[2 * kRadius + 1];
  const float *red_across[kRing], *blue_across[kRing];
  const float *slope, *luma, *red, *blue;
};

// from, to: kBlockColumns pixels; column: the first one's place in the rows.
template <class E>
struct DenoiseBlock {
  ZDCE_INLINE static void run(const Around* around, int column, float limit, float chroma, float color_error,
                              const char* from, char* to) {
    Row<E> row;
    row.unpack(from);
    for (int g = 0; g < kBlockGroups; ++g) {
      const int i = column + g * kRegisterLanes;
      const Register slope = load_register(around->slope + i);
      const Register added = positive(slope * slope - 1.0f);
      const Register light = smoothed_luma(*around, i, limit * added);
      const Register share = at_most_one(positive(chroma * (slope - 1.0f))), pale = 1.0f / (1.0f + color_error * added);
      const Register red = share * (pale * symmetric(kChroma, around->red_across, i) - load_register(around->red + i));
      const Register blue =
          share * (pale * symmetric(kChroma, around->blue_across, i) - load_register(around->blue + i));
      put(row, 0, g, light + red);
      put(row, 1, g, light - (kRed / kGreen) * red - (kBlue / kGreen) * blue);
      put(row, 2, g, light + blue);
    }
    row.pack(to);
  }

  // The weighted mean of luma with less grain minus the pixel's own luma; `range` is the square of the cutoff. The
  // weight is Tukey's biweight (1 - d^2 / range)^2 times range^2: it needs no division, and a range of 0 changes
  // nothing.
  ZDCE_INLINE static Register smoothed_luma(const Around& around, int i, Register range) {
    const Register guide = load_register(around.guide[kRadius] + i), own = load_register(around.luma + i);
    Register total = range * range + kOwnWeight,
             difference = total * (load_register(around.averaged[kRadius] + i) - own);
    for (int y = -kRadius; y <= kRadius; ++y) {
      for (int x = -kRadius; x <= kRadius; ++x) {
        if (x == 0 && y == 0) continue;
        const Register away = load_register(around.guide[kRadius + y] + i + x) - guide,
                       left = positive(range - away * away);
        const Register weight = left * left * kNear[x * x + y * y];
        total += weight;
        difference += weight * (load_register(around.averaged[kRadius + y] + i + x) - own);
      }
    }
    return difference / total;
  }

  // Changes that are NaN, from a neighbour that is, change nothing.
  ZDCE_INLINE static void put(Row<E>& row, int c, int g, Register change) {
    const Register own = row.get(c, g), most = larger(own, Register{} + kBelowWhite);
    const Register changed = smaller(positive(own + change), most);
    row.put(c, g, change == change ? changed : own);
  }
};

// Rows begin to end of at most kTileColumns columns from column x.
template <class E>
class DenoiseTile {
 public:
  DenoiseTile(const Denoising& work, int64_t x, int64_t begin, int64_t end, Lines& lines)
      : work_(work), x_(x), begin_(begin), end_(end), lines_(lines) {}

  void run() {
    for (int64_t y = begin_ - kReach; y < begin_ + kReach; ++y) enter(y);
    for (int64_t y = begin_; y < end_; ++y) {
      enter(y + kReach);
      denoise(y);
    }
  }

 private:
  static int slot(int64_t y) { return static_cast<int>((y + kRing) % kRing); }

  // Computes row y of the lines; rows above and below the picture repeat its border.
  void enter(int64_t y) {
    const int to = slot(y);
    LumaOfRow<E>::run(row(work_.picture, y), +lines_.picture_luma[to]);
    ColorsOfRow<E>::run(row(work_.enhanced, y), +lines_.luma[to], +lines_.red[to], +lines_.blue[to]);
    FilterAcross::run(&lines_, to);
    if (y < begin_) return;  // what needs five rows begins two rows above the band
    const int middle = slot(y - kRadius);
    const float* across[2 * kRadius + 1];
    pick<kRadius>(lines_.guide_across, y - kRadius, across);
    FilterGuideDown::run(static_cast<const float* const*>(across), +lines_.guide[middle]);
    Square square;
    pick<kRadius>(lines_.enhanced_sum, y - kRadius, square.enhanced_sum);
    pick<kRadius>(lines_.picture_sum, y - kRadius, square.picture_sum);
    pick<kRadius>(lines_.square_sum, y - kRadius, square.square_sum);
    square.luma = lines_.luma[middle], square.picture_luma = lines_.picture_luma[middle];
    ReduceGrain::run(static_cast<const Square*>(&square), work_.grain, +lines_.slope[middle], +lines_.averaged[middle]);
  }

  template <int kAround>
  void pick(const Line* lines, int64_t y, const float** rows) const {
    for (int k = -kAround; k <= kAround; ++k) rows[kAround + k] = lines[slot(y + k)];
  }

  void denoise(int64_t y) {
    Around around;
    pick<kRadius>(lines_.averaged, y, around.averaged);
    pick<kRadius>(lines_.guide, y, around.guide);
    pick<kReach>(lines_.red_across, y, around.red_across);
    pick<kReach>(lines_.blue_across, y, around.blue_across);
    around.slope = lines_.slope[slot(y)], around.luma = lines_.luma[slot(y)];
    around.red = lines_.red[slot(y)], around.blue = lines_.blue[slot(y)];
    const char* const from = row(work_.enhanced, y);
    const Around* const address = &around;
    for (int64_t x = x_; x < std::min(x_ + kTileColumns, work_.enhanced.width); x += kBlockColumns) {
      const int column = static_cast<int>(x - x_) + kMargin;
      const int64_t pixels = std::min<int64_t>(kBlockColumns, work_.enhanced.width - x);
      char* const to = work_.denoised.row(y) + 3 * x * sizeof(E);
      DenoiseBlock<E>::run(address, kLineFirst + column, work_.limit, work_.chroma, work_.color_error,
                           from + 3 * column * sizeof(E), pixels == kBlockColumns ? to : reinterpret_cast<char*>(cut_));
      if (pixels < kBlockColumns) std::memcpy(to, cut_, 3 * pixels * sizeof(E));
    }
  }

  // kLineColumns pixels of the picture's row y from column x_ - kMargin; pixels beyond the borders repeat them.
  const char* row(const Picture& picture, int64_t y) {
    const int64_t first = x_ - kMargin;
    const E* const pixels = reinterpret_cast<const E*>(picture.row(std::clamp<int64_t>(y, 0, picture.height - 1)));
    if (first >= 0 && first + kLineColumns <= picture.width) return reinterpret_cast<const char*>(pixels + 3 * first);
    const int64_t begin = std::max<int64_t>(0, x_ - kReach), end = std::min(first + kLineColumns, picture.width);
    E* const to = repeated_ + 3 * (begin - first);
    std::memcpy(to, pixels + 3 * begin, 3 * (end - begin) * sizeof(E));
    for (int64_t k = 1; k <= kReach; ++k) {
      if (begin == 0) std::copy_n(pixels, 3, to - 3 * k);
      if (end == picture.width) std::copy_n(pixels + 3 * (end - 1), 3, to + 3 * (end - begin - 1 + k));
    }
    return reinterpret_cast<const char*>(repeated_);
  }

  const Denoising& work_;
  const int64_t x_, begin_, end_;
  Lines& lines_;
  E repeated_[3 * (kLineColumns + kReach)] = {}, cut_[3 * kBlockColumns];
};

template <class E>
void denoise(const Denoising& work) {
  const int64_t height = work.enhanced.height;
  const int64_t across = (work.enhanced.width + kTileColumns - 1) / kTileColumns,
                bands = (height + kTileRows - 1) / kTileRows;
  parallel_for(across * bands, 1, [&](int64_t begin, int64_t end) {
    const auto lines = std::make_unique<Lines>();
    for (int64_t i = begin; i < end; ++i) {
      const int64_t top = i / across * kTileRows;
      DenoiseTile<E>(work, i % across * kTileColumns, top, std::min(top + kTileRows, height), *lines).run();
    }
  });
}

// All pictures: (H, W, 3), interleaved, of one element type.
inline void run(const Denoising& work) {
  with_pixel(work.picture.element, [&](auto element) { denoise<decltype(element)>(work); });
}

}  // namespace zdce::ZDCE_TARGET::denoise_picture
