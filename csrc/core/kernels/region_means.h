// region_means on the CPU: means over RGB and square regions of pixels. A task is one row of regions.
#pragma once

#include "each_tile.h"

namespace zdce::ZDCE_TARGET::region_means {

// Rows that are summed in C (48 values a column) before the sums are added to doubles.
constexpr int64_t kFloatRows = 16;

template <class C>
struct AddRow {
  // Float32: 12 bytes read a pixel.
  ZDCE_INLINE static void run(const C* const* image, int n, C* columns) {
    for (int i = 0; i < n; i += kLanes<C>) {
      const int m = std::min(kLanes<C>, n - i);
      const Lanes<C> rgb = (load(image[0] + i, m) + load(image[1] + i, m)) + load(image[2] + i, m);
      store(columns + i, load(columns + i, kLanes<C>) + rgb, kLanes<C>);
    }
  }
};

template <class C>
struct Workspace {
  alignas(64) C image[3 * kRunPixels], columns[kRunPixels];
  alignas(64) double sums[kRunPixels];
};

// Calls f(r, begin, end) for every region r that has columns between x and x + n; begin and end are relative to x.
template <class F>
void for_each_region(int64_t region, int64_t across, int64_t x, int n, const F& f) {
  for (int64_t r = x / region; r < across && r * region < x + n; ++r) {
    f(r, std::max<int64_t>(r * region - x, 0), std::min<int64_t>((r + 1) * region - x, n));
  }
}

template <class C>
void forward(const Planes& image, int64_t region, C* to) {
  const int64_t down = image.height / region, across = image.width / region;
  const double pixels = 3.0 * static_cast<double>(region) * static_cast<double>(region);
  for_each_tile<Workspace<C>>(Tiling{image.batch, down, 1, 1, 1}, [&](const Tile& task, Workspace<C>& space) {
    std::vector<double> regions(across);
    const C* blocks[3];
    for (int64_t x = 0; x < across * region; x += kRunPixels) {
      const int n = static_cast<int>(std::min<int64_t>(kRunPixels, across * region - x));
      std::fill_n(space.sums, n, 0.0);
      for (int64_t y = task.y * region; y < (task.y + 1) * region; y += kFloatRows) {
        std::fill_n(space.columns, kRunPixels, C{0});
        for (int64_t row = y; row < std::min(y + kFloatRows, (task.y + 1) * region); ++row) {
          fetch(image, {task.b, 0, 3, row, x, n}, space.image, kRunPixels, blocks);
          AddRow<C>::run(static_cast<const C* const*>(blocks), n, space.columns);
        }
        for (int i = 0; i < n; ++i) space.sums[i] += space.columns[i];
      }
      for_each_region(region, across, x, n, [&](int64_t r, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) regions[r] += space.sums[i];
      });
    }
    for (int64_t r = 0; r < across; ++r) {
      to[(task.b * down + task.y) * across + r] = static_cast<C>(regions[r] / pixels);
    }
  });
}

// Float32: 12 bytes written a pixel; 0 in the incomplete border, whose rows are the last task of an image.
template <class C>
void backward(const C* from, int64_t region, const Planes& grad_image) {
  const int64_t height = grad_image.height, width = grad_image.width;
  const int64_t down = height / region, across = width / region;
  const C pixels = static_cast<C>(3.0 * static_cast<double>(region) * static_cast<double>(region));
  for_each_tile<Workspace<C>>(Tiling{grad_image.batch, down + 1, 1, 1, 1}, [&](const Tile& task, Workspace<C>& space) {
    for (int64_t x = 0; x < width; x += kRunPixels) {
      const int n = static_cast<int>(std::min<int64_t>(kRunPixels, width - x));
      std::fill_n(space.columns, n, C{0});
      if (task.y < down) {
        for_each_region(region, across, x, n, [&](int64_t r, int64_t begin, int64_t end) {
          std::fill(space.columns + begin, space.columns + end, from[(task.b * down + task.y) * across + r] / pixels);
        });
      }
      if (!is_run<C>(grad_image)) {
        for (int c = 0; c < 3; ++c) std::copy_n(space.columns, n, space.image + c * kRunPixels);
      }
      for (int64_t y = task.y * region; y < std::min((task.y + 1) * region, height); ++y) {
        const Piece piece{task.b, 0, 3, y, x, n};
        C* blocks[3];
        target(grad_image, piece, space.image, kRunPixels, blocks);
        if (is_run<C>(grad_image)) {
          for (C* block : blocks) std::copy_n(space.columns, n, block);
        } else {
          put(grad_image, piece, space.image, kRunPixels);
        }
      }
    }
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
