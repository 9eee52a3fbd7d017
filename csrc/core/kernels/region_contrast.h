// region_contrast on the CPU: how far two images' region means lie apart, and the squared differences of neighbouring
// gaps.
#pragma once

#include "region_means.h"

namespace zdce::ZDCE_TARGET::region_contrast {

template <class C>
struct Workspace {
  alignas(64) C enhanced[3 * kRunPixels], image[3 * kRunPixels], columns[kRunPixels];
  alignas(64) double sums[kRunPixels];
};

// Adds the difference of both images' RGB sums.
template <class C>
struct AddDifference {
  ZDCE_INLINE static void run(const C* const* enhanced, const C* const* image, int n, C* columns) {
    int i = 0;
    for (; i + kLanes<C> <= n; i += kLanes<C>) lanes(enhanced, image, i, kLanes<C>, columns);
    if (i < n) lanes(enhanced, image, i, n - i, columns);
  }

  ZDCE_INLINE static void lanes(const C* const* enhanced, const C* const* image, int i, int n, C* columns) {
    store(columns + i, load(columns + i, kLanes<C>) + (sum(enhanced, i, n) - sum(image, i, n)), kLanes<C>);
  }

  ZDCE_INLINE static Lanes<C> sum(const C* const* rgb, int i, int n) {
    return (load(rgb[0] + i, n) + load(rgb[1] + i, n)) + load(rgb[2] + i, n);
  }
};

// Gaps of one row of regions (across,).
// Float32: 24 bytes read a pixel.
template <class C>
void row_of_gaps(const Planes& enhanced, const Planes& image, int64_t region, const Tile& task, Workspace<C>& space,
                 C* to) {
  const int64_t across = enhanced.width / region, last = (task.y + 1) * region;
  const double pixels = 3.0 * static_cast<double>(region) * static_cast<double>(region);
  double open = 0;  // sum of the region that the last run ended in
  for (int64_t x = 0; x < across * region; x += kRunPixels) {
    const int n = static_cast<int>(std::min<int64_t>(kRunPixels, across * region - x));
    std::fill_n(space.sums, n, 0.0);
    for (int64_t y = task.y * region; y < last; y += region_means::kFloatRows) {
      std::fill_n(space.columns, kRunPixels, C{0});
      for (int64_t row = y; row < std::min(y + region_means::kFloatRows, last); ++row) {
        const C *from[3], *other[3];
        fetch(enhanced, {task.b, 0, 3, row, x, n}, space.enhanced, kRunPixels, from);
        fetch(image, {task.b, 0, 3, row, x, n}, space.image, kRunPixels, other);
        AddDifference<C>::run(static_cast<const C* const*>(from), static_cast<const C* const*>(other), n,
                              space.columns);
      }
      for (int i = 0; i < n; ++i) space.sums[i] += space.columns[i];
    }
    if (region == 4) {  // the usual one; a run holds whole regions
      const double* from = space.sums;
      for (C* gap = to + x / 4; gap < to + (x + n) / 4; ++gap, from += 4) {
        *gap = static_cast<C>(((from[0] + from[1]) + (from[2] + from[3])) / pixels);
      }
      continue;
    }
    region_means::for_each_region(region, across, x, n, [&](int64_t r, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) open += space.sums[i];
      if (x + end < (r + 1) * region) return;
      to[r] = static_cast<C>(open / pixels), open = 0;
    });
  }
}

// Sum of the squared differences of n values to others or, without kOthers, to zeros.
template <class C, bool kOthers>
struct SquaredDifferences {
  ZDCE_INLINE static void run(const C* row, const C* other, int64_t n, double* sum) {
    // Flushed so that at most 64 values of a lane add up before they go on in double.
    for (int64_t begin = 0; begin < n; begin += int64_t{64} * kLanes<C>) {
      const int64_t end = std::min(n, begin + int64_t{64} * kLanes<C>);
      Lanes<C> squares{};
      for (int64_t i = begin; i < end; i += kLanes<C>) {
        const int m = static_cast<int>(std::min<int64_t>(kLanes<C>, end - i));
        Lanes<C> d = load(row + i, m);
        if constexpr (kOthers) d -= load(other + i, m);
        squares += d * d;
      }
      *sum += total<C>(squares);
    }
  }
};

// For one row of an image's gaps (down, across): sum over its regions of the squared differences to the neighbours, 0
// beyond the border, but that of each pair inside at once, twice.
template <class C>
double row_of_squares(const C* row, int64_t y, int64_t down, int64_t across) {
  double inside = 0, border = 0;
  SquaredDifferences<C, true>::run(row + 1, row, across - 1, &inside);
  if (y + 1 < down) SquaredDifferences<C, true>::run(row + across, row, across, &inside);
  if (y == 0) SquaredDifferences<C, false>::run(row, nullptr, across, &border);
  if (y + 1 == down) SquaredDifferences<C, false>::run(row, nullptr, across, &border);
  const double first = row[0], last = row[across - 1];
  return 2 * inside + border + first * first + last * last;
}

// Rows of small grids that a thread takes at once: they take less time than to wake another.
constexpr int64_t kRows = 64;

template <class C>
void forward(const Planes& enhanced, const Planes& image, int64_t region, C* change, C* gaps) {
  const int64_t down = enhanced.height / region, across = enhanced.width / region;
  std::vector<double> squares(across > 0 ? enhanced.batch * down : 0);
  const int64_t rows = static_cast<int64_t>(squares.size());
  for_each_tile<Workspace<C>>(Tiling{enhanced.batch, across > 0 ? down : 0, 1, 1, 1},
                              [&](const Tile& task, Workspace<C>& space) {
                                row_of_gaps(enhanced, image, region, task, space, gaps + task.index * across);
                              });
  parallel_for(rows, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) squares[i] = row_of_squares(gaps + i * across, i % down, down, across);
  });
  double sum = 0;
  for (const double each : squares) sum += each;
  *change = static_cast<C>(sum / static_cast<double>(std::max<int64_t>(rows * across, 1)));
}

// Derivatives of the change by a row of gaps, times `grad`, added to `others` where there are some.
template <class C>
struct RowOfSlopes {
  ZDCE_INLINE static void run(const C* row, const C* above, const C* below, const C* others, int64_t across, C grad,
                              C* to) {
    // Each pair inside counts twice: 4 (g - g'). One with the padding once: 2 g, half of that with g' = 0.
    for (int64_t r = 0; r < across; r += kLanes<C>) {
      const int n = static_cast<int>(std::min<int64_t>(kLanes<C>, across - r));
      const Lanes<C> g = load(row + r, n), half = g / 2;
      Lanes<C> sum = above != nullptr ? g - load(above + r, n) : half;
      sum += below != nullptr ? g - load(below + r, n) : half;
      store(to + r, sum, n);
    }
    const int64_t last = across - 1;
    for (int64_t r = 0; r < last; r += kLanes<C>) {
      const int n = static_cast<int>(std::min<int64_t>(kLanes<C>, last - r));
      store(to + r, load(to + r, n) + (load(row + r, n) - load(row + r + 1, n)), n);
    }
    for (int64_t r = 1; r <= last; r += kLanes<C>) {
      const int n = static_cast<int>(std::min<int64_t>(kLanes<C>, across - r));
      store(to + r, load(to + r, n) + (load(row + r, n) - load(row + r - 1, n)), n);
    }
    to[0] += row[0] / 2, to[last] += row[last] / 2;
    for (int64_t r = 0; r < across; r += kLanes<C>) {
      const int n = static_cast<int>(std::min<int64_t>(kLanes<C>, across - r));
      const Lanes<C> slopes = grad * load(to + r, n);
      store(to + r, others == nullptr ? slopes : slopes + load(others + r, n), n);
    }
  }
};

template <class C>
void backward(const C* grad, const C* gaps, const C* grad_gaps, int64_t region, const Planes& grad_image) {
  const int64_t down = grad_image.height / region, across = grad_image.width / region;
  const int64_t rows = across > 0 ? grad_image.batch * down : 0;
  const C scale = grad == nullptr ? C{0} : 4 * *grad / static_cast<C>(std::max<int64_t>(rows * across, 1));
  std::vector<C> slopes(rows * across);
  parallel_for(rows, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const C* const row = gaps + i * across;
      RowOfSlopes<C>::run(row, i % down > 0 ? row - across : nullptr, i % down + 1 < down ? row + across : nullptr,
                          grad_gaps == nullptr ? nullptr : grad_gaps + i * across, across, scale,
                          slopes.data() + i * across);
    }
  });
  region_means::backward<C>(slopes.data(), region, grad_image);
}

// enhanced, image: (B, 3, H, W). Written, of double where one of the two is, else float: change: (); gaps:
// (B, H / region, W / region).
inline void run(const Planes& enhanced, const Planes& image, int64_t region, void* change, void* gaps) {
  const auto compute = [&](auto zero) {
    using C = decltype(zero);
    forward<C>(enhanced, image, region, static_cast<C*>(change), static_cast<C*>(gaps));
  };
  in_double(enhanced, image) ? compute(double{}) : compute(float{});
}

// grad: () and grad_gaps: (B, H / region, W / region), null for zeros; gaps as grad_gaps; all of double where `wide`,
// else float. grad_image: (B, 3, H, W), written.
inline void run_backward(bool wide, const void* grad, const void* gaps, const void* grad_gaps, int64_t region,
                         const Planes& grad_image) {
  const auto compute = [&](auto zero) {
    using C = decltype(zero);
    backward<C>(static_cast<const C*>(grad), static_cast<const C*>(gaps), static_cast<const C*>(grad_gaps), region,
                grad_image);
  };
  wide ? compute(double{}) : compute(float{});
}

}  // namespace zdce::ZDCE_TARGET::region_contrast
