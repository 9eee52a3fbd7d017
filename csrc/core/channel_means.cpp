// channel_means on the CPU: each image's mean colour.

#include <torch/csrc/stable/library.h>

#include <vector>

#include "isa.h"
#include "lanes.h"
#include "planes.h"
#include "tiles.h"

namespace zdce {
namespace {

constexpr int kRows = 64;

template <class C>
struct RowSums {
  // Float32: 12 bytes read a pixel. A row's sum, 16 values a lane, goes into a double.
  ZDCE_INLINE static void run(const C* const* image, int n, double* sums) {
    for (int c = 0; c < 3; ++c) {
      Lanes<C> sum{};
      for (int i = 0; i < n; i += kLanes<C>) sum += load(image[c] + i, std::min(kLanes<C>, n - i));
      sums[c] += total<C>(sum);
    }
  }
};

template <class C>
struct Workspace {
  alignas(64) C image[3 * kBlock];
};

struct Partial {
  double sums[3];
};

template <class C>
void forward(const Planes& image, const Tensor& means) {
  C* const to = grid<C>(means, "means", {image.batch, 3});
  const Isa best = isa();
  const Tiling tiling{image.batch, image.height, image.width, kRows, kBlock};
  std::vector<Partial> partials(tiling.count());
  for_each_tile<Workspace<C>>(tiling, [&](const Tile& tile, Workspace<C>& space) {
    Partial partial{};
    const C* blocks[3];
    for (int64_t y = tile.y; y < tile.y + tile.rows; ++y) {
      fetch(best, image, {tile.b, 0, 3, y, tile.x, tile.n}, space.image, kBlock, blocks);
      dispatch<RowSums<C>>(best, static_cast<const C* const*>(blocks), tile.n, partial.sums);
    }
    partials[tile.index] = partial;
  });
  for (int64_t b = 0; b < image.batch; ++b) {
    for (int c = 0; c < 3; ++c) {
      double sum = 0;
      for (int64_t i = b * tiling.per_image(); i < (b + 1) * tiling.per_image(); ++i) sum += partials[i].sums[c];
      to[3 * b + c] = static_cast<C>(sum / static_cast<double>(image.height * image.width));
    }
  }
}

// Float32: 12 bytes written a pixel.
template <class C>
void backward(const Tensor& grad, const Planes& grad_image) {
  const C* const from = grid<C>(grad, "grad", {grad_image.batch, 3});
  const Isa best = isa();
  const Tiling tiling{grad_image.batch, grad_image.height, grad_image.width, kRows, kBlock};
  for_each_tile<Workspace<C>>(tiling, [&](const Tile& tile, Workspace<C>& space) {
    for (int64_t y = tile.y; y < tile.y + tile.rows; ++y) {
      const Piece piece{tile.b, 0, 3, y, tile.x, tile.n};
      C* blocks[3];
      target(grad_image, piece, space.image, kBlock, blocks);
      for (int c = 0; c < 3; ++c) {
        std::fill_n(blocks[c], tile.n, from[3 * tile.b + c] / static_cast<C>(grad_image.height * grad_image.width));
      }
      put(best, grad_image, piece, space.image, kBlock);
    }
  });
}

// image: (B, 3, H, W); means: (B, 3), written.
void channel_means(const Tensor image, const Tensor means) {
  const Planes i = planes(image, "image");
  check_shape(i, "image", i.batch, 3, i.height, i.width);
  (i.dtype == ScalarType::Double ? forward<double> : forward<float>)(i, means);
}

// grad: (B, 3); grad_image: (B, 3, height, width), written.
void channel_means_backward(const Tensor grad, int64_t height, int64_t width, const Tensor grad_image) {
  const Planes i = planes(grad_image, "grad_image");
  check_shape(i, "grad_image", i.batch, 3, height, width);
  (i.dtype == ScalarType::Double ? backward<double> : backward<float>)(grad, i);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("channel_means", TORCH_BOX(&zdce::channel_means));
  m.impl("channel_means_backward", TORCH_BOX(&zdce::channel_means_backward));
}
