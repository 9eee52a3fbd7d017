// Rows of pictures to rows of floats and back.
#pragma once

#include "bands.h"

namespace zdce::ZDCE_TARGET {

template <class S>
struct LoadRow {
  ZDCE_INLINE static void run(const S* from, int64_t stride, int n, float* to) {
    if (stride == 3) {
      for (int x = 0; x < n; ++x) to[x] = static_cast<float>(from[3 * x]) / kWhite<S>;
    } else {
      for (int x = 0; x < n; ++x) to[x] = static_cast<float>(from[x * stride]) / kWhite<S>;
    }
  }
};

template <class S>
struct StoreRow {
  ZDCE_INLINE static void run(const float* from, int n, S* to, int64_t stride) {
    if (stride == 3) {
      for (int x = 0; x < n; ++x) to[3 * x] = rounded(from[x]);
    } else {
      for (int x = 0; x < n; ++x) to[x * stride] = rounded(from[x]);
    }
  }

  // To the nearest integer, halves to even: what adding 1.5 * 2^23 does to a float.
  ZDCE_INLINE static S rounded(float value) {
    if constexpr (sizeof(S) == 4) return value;
    float v = value * kWhite<S>;
    v = v > 0 ? v : 0;
    v = v < kWhite<S> ? v : kWhite<S>;
    return static_cast<S>(static_cast<int32_t>((v + 12582912.0f) - 12582912.0f));
  }
};

// n pixels of row y from column x on into rows[c] + to, in [0, 1].
inline void load_pixels(const Picture& picture, int y, int x, int n, float* const (&rows)[3], int to) {
  with_pixel(picture.element, [&](auto element) {
    using S = decltype(element);
    for (int c = 0; c < 3; ++c) {
      const int64_t at = y * picture.row_stride + x * picture.column_stride + c * picture.channel_stride;
      LoadRow<S>::run(static_cast<const S*>(picture.data) + at, picture.column_stride, n, rows[c] + to);
    }
  });
}

// n pixels of `height` rows from (y, x) on, from rows[k][r] + from.
inline void store_pixels(const NetworkResult& result, int y, int height, int x, int n,
                         float* const (&rows)[kMaxMaps][kBandRows], int from) {
  const Picture& to = result.picture;
  with_pixel(to.element, [&](auto element) {
    using S = decltype(element);
    for (int r = 0; r < height; ++r) {
      for (int k = 0; k < result.channels; ++k) {
        const int64_t at = (y + r) * to.row_stride + x * to.column_stride + k * to.channel_stride;
        StoreRow<S>::run(rows[k][r] + from, n, static_cast<S*>(to.data) + at, to.column_stride);
      }
    }
  });
}

}  // namespace zdce::ZDCE_TARGET
