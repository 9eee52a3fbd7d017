// channel_means on the CPU: each image's mean colour.
#pragma once

#include "each_tile.h"

namespace zdce::ZDCE_TARGET::channel_means {

template <class C>
struct RowSums {
  // Float32: 12 bytes read a pixel. A row's sum, some 64 values a lane at most, goes into a double.
  ZDCE_INLINE static void run(const C* const* image, int n, double* sums) {
    for (int c = 0; c < 3; ++c) {
      Lanes<C> sum[4] = {};
      int i = 0;
      for (; i + 4 * kLanes<C> <= n; i += 4 * kLanes<C>) {
        for (int k = 0; k < 4; ++k) sum[k] += load(image[c] + i + k * kLanes<C>, kLanes<C>);
      }
      for (; i < n; i += kLanes<C>) sum[0] += load(image[c] + i, std::min(kLanes<C>, n - i));
      sums[c] += total<C>((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
  }
};

template <class C>
struct Workspace {
  alignas(64) C image[3 * kColorPitch];
};

template <class C>
struct FillRun {
  ZDCE_INLINE static void run(C value, int n, bool past_caches, C* to) {
    const Lanes<C> values = value - Lanes<C>{};
    int i = 0;
    for (; i + kLanes<C> <= n; i += kLanes<C>) store(to + i, values, kLanes<C>, past_caches);
    for (; i < n; ++i) to[i] = value;
  }
};

struct Partial {
  double sums[3];
};

template <class C>
void forward(const Planes& image, C* to) {
  const Tiling tiling{image.batch, image.height, image.width, kTileRows, kColorPixels};
  std::vector<Partial> partials(tiling.count());
  for_each_tile<Workspace<C>>(tiling, values_of(image), [&](const Tile& tile, Workspace<C>& space) {
    Partial partial{};
    const C* blocks[3];
    for (int64_t y = tile.y; y < tile.y + tile.rows; ++y) {
      fetch(image, {tile.b, 0, 3, y, tile.x, tile.n}, space.image, kColorPitch, blocks);
      RowSums<C>::run(static_cast<const C* const*>(blocks), tile.n, partial.sums);
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
void backward(const C* from, const Planes& grad_image) {
  const Tiling tiling{grad_image.batch, grad_image.height, grad_image.width, kTileRows, kColorPixels};
  const bool streams = past_caches<C>(grad_image);
  for_each_tile<Workspace<C>>(tiling, values_of(grad_image), [&](const Tile& tile, Workspace<C>& space) {
    const bool own = is_run<C>(grad_image);
    for (int c = 0; c < 3; ++c) {
      const C slope = from[3 * tile.b + c] / static_cast<C>(grad_image.height * grad_image.width);
      for (int64_t y = tile.y; y < (own ? tile.y + tile.rows : tile.y + 1); ++y) {
        C* const to =
            own ? reinterpret_cast<C*>(address(grad_image, tile.b, c, y, tile.x)) : space.image + c * kColorPitch;
        FillRun<C>::run(slope, tile.n, streams, to);
      }
    }
    for (int64_t y = tile.y; y < tile.y + tile.rows; ++y) {
      put(grad_image, {tile.b, 0, 3, y, tile.x, tile.n}, space.image, kColorPitch);
    }
  });
}

// image: (B, 3, H, W); means: (B, 3), of double where the image is, else float, written.
inline void run(const Planes& image, void* means) {
  if (image.element == Element::kDouble) return forward<double>(image, static_cast<double*>(means));
  forward<float>(image, static_cast<float*>(means));
}

// grad: (B, 3), of double where the image is, else float; grad_image: (B, 3, H, W), written.
inline void run_backward(const void* grad, const Planes& grad_image) {
  if (grad_image.element == Element::kDouble) return backward<double>(static_cast<const double*>(grad), grad_image);
  backward<float>(static_cast<const float*>(grad), grad_image);
}

}  // namespace zdce::ZDCE_TARGET::channel_means
