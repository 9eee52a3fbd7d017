// region_means on the CPU: means over RGB and squares of pixels. A task is one row of regions.

#include <torch/csrc/stable/library.h>

#include <vector>

#include "isa.h"
#include "lanes.h"
#include "planes.h"
#include "tiles.h"

namespace zdce {
namespace {

// Rows that are added up before the sums go into doubles: 48 values each.
constexpr int64_t kRows = 16;

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
  alignas(64) C image[3 * kBlock], columns[kBlock];
  alignas(64) double sums[kBlock];
};

// Calls f(r, begin, end) for every region r of a row of them, as far as it lies in columns x to x + n.
template <class F>
void for_each_region(int64_t region, int64_t across, int64_t x, int n, const F& f) {
  for (int64_t r = x / region; r < across && r * region < x + n; ++r) {
    f(r, std::max<int64_t>(r * region - x, 0), std::min<int64_t>((r + 1) * region - x, n));
  }
}

template <class C>
void forward(const Planes& image, int64_t region, const Tensor& means) {
  const int64_t down = image.height / region, across = image.width / region;
  C* const to = grid<C>(means, "means", {image.batch, down, across});
  const Isa best = isa();
  const double pixels = 3.0 * static_cast<double>(region) * static_cast<double>(region);
  for_each_tile<Workspace<C>>(Tiling{image.batch, down, 1, 1, 1}, [&](const Tile& task, Workspace<C>& space) {
    std::vector<double> regions(across);
    const C* blocks[3];
    for (int64_t x = 0; x < across * region; x += kBlock) {
      const int n = static_cast<int>(std::min<int64_t>(kBlock, across * region - x));
      std::fill_n(space.sums, n, 0.0);
      for (int64_t y = task.y * region; y < (task.y + 1) * region; y += kRows) {
        std::fill_n(space.columns, kBlock, C{0});
        for (int64_t row = y; row < std::min(y + kRows, (task.y + 1) * region); ++row) {
          fetch(best, image, {task.b, 0, 3, row, x, n}, space.image, kBlock, blocks);
          dispatch<AddRow<C>>(best, static_cast<const C* const*>(blocks), n, space.columns);
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
void backward(const Tensor& grad, int64_t region, const Planes& grad_image) {
  const int64_t height = grad_image.height, width = grad_image.width;
  const int64_t down = height / region, across = width / region;
  const C* const from = grid<C>(grad, "grad", {grad_image.batch, down, across});
  const Isa best = isa();
  const C pixels = static_cast<C>(3.0 * static_cast<double>(region) * static_cast<double>(region));
  for_each_tile<Workspace<C>>(Tiling{grad_image.batch, down + 1, 1, 1, 1}, [&](const Tile& task, Workspace<C>& space) {
    for (int64_t x = 0; x < width; x += kBlock) {
      const int n = static_cast<int>(std::min<int64_t>(kBlock, width - x));
      std::fill_n(space.columns, n, C{0});
      if (task.y < down) {
        for_each_region(region, across, x, n, [&](int64_t r, int64_t begin, int64_t end) {
          std::fill(space.columns + begin, space.columns + end, from[(task.b * down + task.y) * across + r] / pixels);
        });
      }
      for (int c = 0; c < 3; ++c) std::copy_n(space.columns, n, space.image + c * kBlock);
      for (int64_t y = task.y * region; y < std::min((task.y + 1) * region, height); ++y) {
        const Piece piece{task.b, 0, 3, y, x, n};
        C* blocks[3];
        target(grad_image, piece, space.image, kBlock, blocks);
        if (blocks[0] == space.image) {
          put(best, grad_image, piece, space.image, kBlock);
        } else {
          for (C* block : blocks) std::copy_n(space.columns, n, block);
        }
      }
    }
  });
}

void check_region(int64_t region) {
  if (region < 1 || region > (int64_t{1} << 31)) {
    throw std::runtime_error("zdce: region must be 1 to 2^31, got " + std::to_string(region));
  }
}

// image: (B, 3, H, W); means: (B, H / region, W / region), written.
void region_means(const Tensor image, int64_t region, const Tensor means) {
  const Planes i = planes(image, "image");
  check_shape(i, "image", i.batch, 3, i.height, i.width);
  check_region(region);
  (i.dtype == ScalarType::Double ? forward<double> : forward<float>)(i, region, means);
}

// grad: (B, height / region, width / region); grad_image: (B, 3, height, width), written.
void region_means_backward(const Tensor grad, int64_t region, int64_t height, int64_t width, const Tensor grad_image) {
  const Planes i = planes(grad_image, "grad_image");
  check_shape(i, "grad_image", i.batch, 3, height, width);
  check_region(region);
  (i.dtype == ScalarType::Double ? backward<double> : backward<float>)(grad, region, i);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("region_means", TORCH_BOX(&zdce::region_means));
  m.impl("region_means_backward", TORCH_BOX(&zdce::region_means_backward));
}
