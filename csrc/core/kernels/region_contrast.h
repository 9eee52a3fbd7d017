// region_contrast on the CPU: how far two images' region means lie apart, and the squared differences of neighbouring
// gaps.
#pragma once

#include "region_means.h"

namespace zdce::ZDCE_TARGET::region_contrast {

template <class C>
struct Workspace {
  region_means::Workspace<C> means;
  alignas(64) C image[3 * kColorPitch];
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
    using region_means::AddRow;
    store(columns + i, load(columns + i, kLanes<C>) + (AddRow<C>::rgb(enhanced, i, n) - AddRow<C>::rgb(image, i, n)),
          kLanes<C>);
  }
};

// Sum of the squared differences of n values to others or, without kOthers, to zeros.
template <class C, bool kOthers>
struct SquaredDifferences {
  ZDCE_INLINE static void run(const C* row, const C* other, int64_t n, double* sum) {
    int64_t i = 0;
    while (i + kLanes<C> <= n) {
      // Flushed so that at most 64 values of a lane add up before they go on in double.
      const int64_t end = std::min(n, i + int64_t{64} * kLanes<C>);
      Lanes<C> squares{};
      for (; i + kLanes<C> <= end; i += kLanes<C>) {
        Lanes<C> d = load(row + i, kLanes<C>);
        if constexpr (kOthers) d -= load(other + i, kLanes<C>);
        squares += d * d;
      }
      *sum += total<C>(squares);
    }
    C rest{0};
    for (; i < n; ++i) {
      const C d = kOthers ? row[i] - other[i] : row[i];
      rest += d * d;
    }
    *sum += rest;
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

template <class C>
void forward(const Planes& enhanced, const Planes& image, int64_t region, C* change, C* gaps) {
  const int64_t down = enhanced.height / region, across = enhanced.width / region;
  std::vector<double> squares(across > 0 ? enhanced.batch * down : 0);
  const int64_t count = static_cast<int64_t>(squares.size());
  const Tiling rows{enhanced.batch, across > 0 ? down : 0, 1, 1, 1};
  // Float32: 24 bytes read a pixel.
  for_each_tile<Workspace<C>>(rows, 2 * values_of(image), [&](const Tile& task, Workspace<C>& space) {
    const auto add = [&](int64_t y, int64_t x, int n, C* columns) {
      const C *from[3], *other[3];
      fetch(enhanced, {task.b, 0, 3, y, x, n}, space.means.image, kColorPitch, from);
      fetch(image, {task.b, 0, 3, y, x, n}, space.image, kColorPitch, other);
      AddDifference<C>::run(static_cast<const C* const*>(from), static_cast<const C* const*>(other), n, columns);
    };
    region_means::row_of_means(region, across, task.y * region, space.means, gaps + task.index * across, add);
  });
  parallel_for(count, kLeastValues / std::max<int64_t>(1, across) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) squares[i] = row_of_squares(gaps + i * across, i % down, down, across);
  });
  double sum = 0;
  for (const double each : squares) sum += each;
  *change = static_cast<C>(sum / static_cast<double>(std::max<int64_t>(count * across, 1)));
}

// Derivatives of the change by a row of gaps, times `grad`, added to `others` where there are some.
template <class C>
struct RowOfSlopes {
  // Each pair inside counts twice: 4 (g - g'). One with the padding once: 2 g, half of that with g' = 0.
  ZDCE_INLINE static void run(const C* row, const C* above, const C* below, const C* others, int64_t across, C grad,
                              C* to) {
    int64_t r = 0;
    to[r] = slope(row, above, below, others, r, across, grad), ++r;
    for (; r + kLanes<C> < across; r += kLanes<C>) {
      const Lanes<C> g = lanes(row + r), half = g / 2;
      const Lanes<C> y =
          (above != nullptr ? g - lanes(above + r) : half) + (below != nullptr ? g - lanes(below + r) : half);
      const Lanes<C> slopes = grad * (y + ((g - lanes(row + r - 1)) + (g - lanes(row + r + 1))));
      store(to + r, others == nullptr ? slopes : slopes + lanes(others + r), kLanes<C>);
    }
    for (; r < across; ++r) to[r] = slope(row, above, below, others, r, across, grad);
  }

  ZDCE_INLINE static Lanes<C> lanes(const C* from) { return load(from, kLanes<C>); }

  ZDCE_INLINE static C slope(const C* row, const C* above, const C* below, const C* others, int64_t r, int64_t across,
                             C grad) {
    const C g = row[r], half = g / 2;
    const C y = (above != nullptr ? g - above[r] : half) + (below != nullptr ? g - below[r] : half);
    const C x = (r > 0 ? g - row[r - 1] : half) + (r + 1 < across ? g - row[r + 1] : half);
    return others == nullptr ? grad * (y + x) : grad * (y + x) + others[r];
  }
};

template <class C>
struct BackwardWorkspace {
  region_means::Workspace<C> means;
  std::vector<C> slopes;  // of a row of regions
};

template <class C>
void backward(const C* grad, const C* gaps, const C* grad_gaps, int64_t region, const Planes& grad_image) {
  const int64_t height = grad_image.height, down = height / region, across = grad_image.width / region;
  const C scale =
      grad == nullptr ? C{0} : 4 * *grad / static_cast<C>(std::max<int64_t>(grad_image.batch * down * across, 1));
  const auto put = [&](const Tile& task, BackwardWorkspace<C>& space) {
    const C* slopes = nullptr;
    if (task.y < down && across > 0) {
      const int64_t at = (task.b * down + task.y) * across;
      const C* const row = gaps + at;
      space.slopes.resize(across);
      RowOfSlopes<C>::run(row, task.y > 0 ? row - across : nullptr, task.y + 1 < down ? row + across : nullptr,
                          grad_gaps == nullptr ? nullptr : grad_gaps + at, across, scale, space.slopes.data());
      slopes = space.slopes.data();
    }
    region_means::put_row_of_regions(slopes, region, task.b, task.y * region, std::min((task.y + 1) * region, height),
                                     grad_image, space.means);
  };
  region_means::for_each_row<BackwardWorkspace<C>>(region, grad_image, put);
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
