// region_means on the CPU: means over RGB and square regions of pixels. A task is one row of regions.
#pragma once

#include "each_tile.h"

namespace zdce::ZDCE_TARGET::region_means {

// Rows that are summed in C (48 values a column) before the sums are added to doubles.
constexpr int64_t kFloatRows = 16;

// The most frequent region, whose sums stay float.
constexpr int64_t kFour = 4;

template <class C>
struct AddRow {
  // Float32: 12 bytes read a pixel.
  ZDCE_INLINE static void run(const C* const* image, int n, C* columns) {
    int i = 0;
    for (; i + kLanes<C> <= n; i += kLanes<C>) lanes(image, i, kLanes<C>, columns);
    if (i < n) lanes(image, i, n - i, columns);
  }

  ZDCE_INLINE static void lanes(const C* const* image, int i, int n, C* columns) {
    store(columns + i, load(columns + i, kLanes<C>) + rgb(image, i, n), kLanes<C>);
  }

  ZDCE_INLINE static Lanes<C> rgb(const C* const* image, int i, int n) {
    return (load(image[0] + i, n) + load(image[1] + i, n)) + load(image[2] + i, n);
  }
};

// Means of regions of 4 columns, n columns in all, from the columns' sums.
template <class C>
struct MeansOfFour {
  ZDCE_INLINE static void run(const C* columns, int n, C pixels, C* to) {
    int i = 0;
    if constexpr (kFourFit<C>) {
      for (; i + 16 <= n; i += 16) {
        Four<C> v[4];
        std::memcpy(&v, columns + i, sizeof(v));
        transpose<C>(v);
        const Four<C> means = ((v[0] + v[1]) + (v[2] + v[3])) / pixels;
        std::memcpy(to + i / 4, &means, sizeof(means));
      }
    }
    for (; i < n; i += 4) {
      const C* const from = columns + i;
      to[i / 4] = ((from[0] + from[1]) + (from[2] + from[3])) / pixels;
    }
  }
};

template <class C>
struct Workspace {
  alignas(64) C image[3 * kColorPitch], columns[kColorPixels + kLanes<C>];  // a register beyond the last column
  alignas(64) double sums[kColorPixels];
};

inline double pixels_of(int64_t region) { return 3.0 * static_cast<double>(region) * static_cast<double>(region); }

// Calls f(r, begin, end) for every region r that has columns between x and x + n; begin and end are relative to x.
template <class F>
void for_each_region(int64_t region, int64_t across, int64_t x, int n, const F& f) {
  for (int64_t r = x / region; r < across && r * region < x + n; ++r) {
    f(r, std::max<int64_t>(r * region - x, 0), std::min<int64_t>((r + 1) * region - x, n));
  }
}

// Means of one row of regions (across,) that begins with image row y. add(row, x, n, columns) adds n pixels of an image
// row to the sums of their columns.
template <class C, class F>
void row_of_means(int64_t region, int64_t across, int64_t y, Workspace<C>& space, C* to, const F& add) {
  const double pixels = pixels_of(region);
  double open = 0;  // sum of the region that the last run ended in
  for (int64_t x = 0; x < across * region; x += kColorPixels) {
    const int n = static_cast<int>(std::min<int64_t>(kColorPixels, across * region - x));
    std::fill_n(space.columns, kColorPixels, C{0});
    if (region == kFour) {  // a run holds whole regions
      for (int64_t row = y; row < y + kFour; ++row) add(row, x, n, space.columns);
      MeansOfFour<C>::run(static_cast<const C*>(space.columns), n, static_cast<C>(pixels), to + x / kFour);
      continue;
    }
    std::fill_n(space.sums, n, 0.0);
    for (int64_t first = y; first < y + region; first += kFloatRows) {
      if (first > y) std::fill_n(space.columns, kColorPixels, C{0});
      for (int64_t row = first; row < std::min(first + kFloatRows, y + region); ++row) add(row, x, n, space.columns);
      for (int i = 0; i < n; ++i) space.sums[i] += space.columns[i];
    }
    for_each_region(region, across, x, n, [&](int64_t r, int64_t begin, int64_t end) {
      double sums[4] = {open, 0, 0, 0};
      int64_t i = begin;
      for (; i + 4 <= end; i += 4) {
        for (int k = 0; k < 4; ++k) sums[k] += space.sums[i + k];
      }
      for (; i < end; ++i) sums[0] += space.sums[i];
      open = (sums[0] + sums[1]) + (sums[2] + sums[3]);
      if (x + end < (r + 1) * region) return;
      to[r] = static_cast<C>(open / pixels), open = 0;
    });
  }
}

template <class C>
void forward(const Planes& image, int64_t region, C* to) {
  const int64_t down = image.height / region, across = image.width / region;
  const Tiling rows{image.batch, down, 1, 1, 1};
  for_each_tile<Workspace<C>>(rows, values_of(image), [&](const Tile& task, Workspace<C>& space) {
    const auto add = [&](int64_t y, int64_t x, int n, C* columns) {
      const C* rgb[3];
      fetch(image, {task.b, 0, 3, y, x, n}, space.image, kColorPitch, rgb);
      AddRow<C>::run(static_cast<const C* const*>(rgb), n, columns);
    };
    row_of_means(region, across, task.y * region, space, to + task.index * across, add);
  });
}

// The gradient of n columns' pixels from x on, in a row of regions (across,), of which `slopes` are the gradients; 0 in
// the incomplete border.
template <class C>
void expand(const C* slopes, int64_t region, int64_t across, int64_t x, int n, C* columns) {
  const C pixels = static_cast<C>(pixels_of(region));
  int64_t filled = 0;
  for_each_region(region, across, x, n, [&](int64_t r, int64_t begin, int64_t end) {
    const Lanes<C> value = slopes[r] / pixels - Lanes<C>{};
    // Whole registers: lanes beyond the region are the next one's, which follows.
    for (int64_t i = begin; i < end; i += kLanes<C>) store(columns + i, value, kLanes<C>);
    filled = end;
  });
  std::fill(columns + filled, columns + n, C{0});
}

// n values to an output's run.
template <class C>
struct PutRun {
  ZDCE_INLINE static void run(const C* from, int n, bool past_caches, C* to) {
    int i = 0;
    for (; i + kLanes<C> <= n; i += kLanes<C>) store(to + i, load(from + i, kLanes<C>), kLanes<C>, past_caches);
    for (; i < n; ++i) to[i] = from[i];
  }
};

// A row of regions' gradients, or without slopes the incomplete border's, to image rows y to end.
// Float32: 12 bytes written a pixel.
template <class C>
void put_row_of_regions(const C* slopes, int64_t region, int64_t b, int64_t y, int64_t end, const Planes& grad_image,
                        Workspace<C>& space) {
  const int64_t width = grad_image.width, across = slopes == nullptr ? 0 : width / region;
  const bool streams = past_caches<C>(grad_image);
  for (int64_t x = 0; x < width; x += kColorPixels) {
    const int n = static_cast<int>(std::min<int64_t>(kColorPixels, width - x));
    expand(slopes, region, across, x, n, space.columns);
    if (is_run<C>(grad_image)) {
      for (int c = 0; c < 3; ++c) {
        for (int64_t row = y; row < end; ++row) {
          C* const to = reinterpret_cast<C*>(address(grad_image, b, c, row, x));
          PutRun<C>::run(static_cast<const C*>(space.columns), n, streams, to);
        }
      }
      continue;
    }
    for (int c = 0; c < 3; ++c) std::copy_n(space.columns, n, space.image + c * kColorPitch);
    for (int64_t row = y; row < end; ++row) put(grad_image, {b, 0, 3, row, x, n}, space.image, kColorPitch);
  }
}

// Calls f(row of regions, workspace) for each of an image's rows, the last one that of the incomplete border, which may
// be empty.
template <class Workspace, class F>
void for_each_row(int64_t region, const Planes& grad_image, const F& f) {
  const Tiling rows{grad_image.batch, grad_image.height / region + 1, 1, 1, 1};
  for_each_tile<Workspace>(rows, values_of(grad_image), f);
}

template <class C>
void backward(const C* from, int64_t region, const Planes& grad_image) {
  const int64_t height = grad_image.height, down = height / region, across = grad_image.width / region;
  for_each_row<Workspace<C>>(region, grad_image, [&](const Tile& task, Workspace<C>& space) {
    const C* const slopes = task.y < down ? from + (task.b * down + task.y) * across : nullptr;
    put_row_of_regions(slopes, region, task.b, task.y * region, std::min((task.y + 1) * region, height), grad_image,
                       space);
  });
}

// image: (B, 3, H, W); means: (B, H / region, W / region), of double where the image is, else float, written.
inline void run(const Planes& image, int64_t region, void* means) {
  if (image.element == Element::kDouble) return forward<double>(image, region, static_cast<double*>(means));
  forward<float>(image, region, static_cast<float*>(means));
}

// grad: (B, H / region, W / region), of double where the image is, else float; grad_image: (B, 3, H, W), written.
inline void run_backward(const void* grad, int64_t region, const Planes& grad_image) {
  if (grad_image.element == Element::kDouble) {
    return backward<double>(static_cast<const double*>(grad), region, grad_image);
  }
  backward<float>(static_cast<const float*>(grad), region, grad_image);
}

}  // namespace zdce::ZDCE_TARGET::region_means
