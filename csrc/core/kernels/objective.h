// The objective's terms on the CPU from the statistics that objective_statistics leaves, and the gradients of these.
#pragma once

#include "region_contrast.h"

namespace zdce::ZDCE_TARGET::objective {

// Rows of squares in an image, an incomplete one too.
inline int64_t bands(const RegionGrid& grid) { return (grid.down + kExposureSquare - 1) / kExposureSquare; }

// Calls f(band, b, first row, end of rows) for every band of the batch, on several threads.
template <class F>
void for_each_band(const RegionGrid& grid, const F& f) {
  const int64_t of_image = bands(grid), values = kExposureSquare * std::max<int64_t>(grid.across, 1);
  parallel_for(grid.across > 0 ? grid.batch * of_image : 0, kLeastValues / values + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t y = i % of_image * kExposureSquare;
      f(i, i / of_image, y, std::min(y + kExposureSquare, grid.down));
    }
  });
}

// A quotient's divisor, of which 0 means that there is nothing to divide.
inline double at_least_1(int64_t number) { return static_cast<double>(std::max<int64_t>(number, 1)); }

// The mean of the square that begins with `region`.
template <class C>
double mean_of_square(const C* region, int64_t across) {
  double sum = 0;
  for (int64_t y = 0; y < kExposureSquare; ++y) {
    for (int64_t x = 0; x < kExposureSquare; ++x) sum += region[y * across + x];
  }
  return sum / (kExposureSquare * kExposureSquare);
}

// Differences of a mean colour's channels to the one before each.
template <class C>
void color_gaps(const C* mean, double (&gaps)[3]) {
  for (int c = 0; c < 3; ++c) gaps[c] = static_cast<double>(mean[c]) - mean[(c + 2) % 3];
}

template <class C>
void terms(const ObjectiveSettings& s, const RegionGrid& grid, const C* regions, const C* gaps, const C* channel_means,
           const C* tv_sums, C* const (&to)[kObjectiveScalars]) {
  struct Sums {
    double contrast = 0, exposure = 0;
  };
  std::vector<Sums> parts(grid.batch * bands(grid));
  for_each_band(grid, [&](int64_t band, int64_t b, int64_t first, int64_t end) {
    const int64_t from = b * grid.down * grid.across;
    Sums& sums = parts[band];
    for (int64_t y = first; y < end; ++y) {
      sums.contrast += region_contrast::row_of_squares(gaps + from + y * grid.across, y, grid.down, grid.across);
    }
    for (int64_t x = 0; first + kExposureSquare <= end && x + kExposureSquare <= grid.across; x += kExposureSquare) {
      const double off = mean_of_square(regions + from + first * grid.across + x, grid.across) - s.target;
      sums.exposure += off * off;
    }
  });
  double spatial = 0, exposure = 0, color = 0;
  for (const Sums& sums : parts) spatial += sums.contrast, exposure += sums.exposure;
  for (int64_t b = 0; b < grid.batch; ++b) {
    double off[3];
    color_gaps(channel_means + 3 * b, off);
    color += off[0] * off[0] + off[1] * off[1] + off[2] * off[2];
  }
  spatial /= at_least_1(grid.regions()), exposure /= at_least_1(grid.squares());
  color /= std::sqrt(2.0) * at_least_1(grid.batch);
  const double illumination = s.along_y * tv_sums[0] + s.along_x * tv_sums[1];
  *to[0] =
      static_cast<C>(s.illumination * illumination + s.spatial * spatial + s.color * color + s.exposure * exposure);
  *to[1] = static_cast<C>(illumination), *to[2] = static_cast<C>(spatial);
  *to[3] = static_cast<C>(color), *to[4] = static_cast<C>(exposure);
}

template <class C>
void slopes(const ObjectiveSettings& s, const RegionGrid& grid, const void* const (&grads)[kObjectiveScalars],
            const C* regions, const C* gaps, const C* channel_means, C* grad_regions, C* grad_channels, C* grad_tv) {
  const auto gradient = [&](int term, double weight) {
    const auto of = [&](int i) { return grads[i] == nullptr ? 0.0 : *static_cast<const C*>(grads[i]); };
    return weight * of(0) + of(term);
  };
  const double illumination = gradient(1, s.illumination), spatial = gradient(2, s.spatial);
  const double color = gradient(3, s.color), exposure = gradient(4, s.exposure);
  const C contrast = static_cast<C>(4 * spatial / at_least_1(grid.regions()));
  const double of_square = 2 * exposure / (kExposureSquare * kExposureSquare * at_least_1(grid.squares()));
  for_each_band(grid, [&](int64_t, int64_t b, int64_t first, int64_t end) {
    const int64_t from = b * grid.down * grid.across, across = grid.across;
    std::vector<C> others(across);
    for (int64_t x = 0; first + kExposureSquare <= end && x + kExposureSquare <= across; x += kExposureSquare) {
      const double off = mean_of_square(regions + from + first * across + x, across) - s.target;
      std::fill_n(others.data() + x, kExposureSquare, static_cast<C>(of_square * off));
    }
    for (int64_t y = first; y < end; ++y) {
      const C* const row = gaps + from + y * across;
      region_contrast::RowOfSlopes<C>::run(row, y > 0 ? row - across : nullptr,
                                           y + 1 < grid.down ? row + across : nullptr, others.data(), across, contrast,
                                           grad_regions + from + y * across);
    }
  });
  const double of_color = color * std::sqrt(2.0) / at_least_1(grid.batch);
  for (int64_t b = 0; b < grid.batch; ++b) {
    double off[3];
    color_gaps(channel_means + 3 * b, off);
    for (int c = 0; c < 3; ++c) grad_channels[3 * b + c] = static_cast<C>(of_color * (off[c] - off[(c + 1) % 3]));
  }
  grad_tv[0] = static_cast<C>(illumination * s.along_y), grad_tv[1] = static_cast<C>(illumination * s.along_x);
}

// All of double where `wide`, else float. regions, gaps: the grid; channel_means: (B, 3); tv_sums: (2,);
// scalars, written: (), the total and its terms.
inline void run(bool wide, const ObjectiveSettings& settings, const RegionGrid& grid, const void* regions,
                const void* gaps, const void* channel_means, const void* tv_sums,
                void* const (&scalars)[kObjectiveScalars]) {
  const auto compute = [&](auto zero) {
    using C = decltype(zero);
    C* to[kObjectiveScalars];
    for (int i = 0; i < kObjectiveScalars; ++i) to[i] = static_cast<C*>(scalars[i]);
    terms<C>(settings, grid, static_cast<const C*>(regions), static_cast<const C*>(gaps),
             static_cast<const C*>(channel_means), static_cast<const C*>(tv_sums), to);
  };
  wide ? compute(double{}) : compute(float{});
}

// grads: of the scalars, null for zeros. Written: grad_regions: the grid; grad_channels: (B, 3); grad_tv:
// (2,). All else as above.
inline void run_backward(bool wide, const ObjectiveSettings& settings, const RegionGrid& grid,
                         const void* const (&grads)[kObjectiveScalars], const void* regions, const void* gaps,
                         const void* channel_means, void* grad_regions, void* grad_channels, void* grad_tv) {
  const auto compute = [&](auto zero) {
    using C = decltype(zero);
    slopes<C>(settings, grid, grads, static_cast<const C*>(regions), static_cast<const C*>(gaps),
              static_cast<const C*>(channel_means), static_cast<C*>(grad_regions), static_cast<C*>(grad_channels),
              static_cast<C*>(grad_tv));
  };
  wide ? compute(double{}) : compute(float{});
}

}  // namespace zdce::ZDCE_TARGET::objective
