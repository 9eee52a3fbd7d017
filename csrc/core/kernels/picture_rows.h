// Conversion of rows of pictures to rows of floats and back.
#pragma once

#include "bands.h"
#include "pixels.h"

namespace zdce::ZDCE_TARGET {

// n values, `stride` apart, in [0, 1].
template <class S>
ZDCE_INLINE void load_row(const S* from, int64_t stride, int n, float* to) {
  for (int x = 0; x < n; ++x) to[x] = static_cast<float>(from[x * stride]) / kWhite<S>;
}

// n pixels of three values each, to three planes.
template <class S>
ZDCE_INLINE void load_interleaved(const S* from, int n, float* const (&to)[3]) {
  constexpr int read = sizeof(S) == 1 ? 6 : 4;  // pixels, the last one perhaps in part
  int x = 0;
  for (; x + read <= n; x += 4) {
    Floats4 v[3];
    load_four_pixels(from + 3 * x, v);
    for (int c = 0; c < 3; ++c) {
      v[c] /= kWhite<S>;
      std::memcpy(to[c] + x, &v[c], sizeof(v[c]));
    }
  }
  for (int c = 0; c < 3; ++c) load_row(from + 3 * x + c, 3, n - x, to[c] + x);
}

// Rounds to the nearest integer, halves to even, by adding 1.5 * 2^23.
template <class S>
ZDCE_INLINE S rounded(float value) {
  if constexpr (sizeof(S) == 4) return value;
  float v = value * kWhite<S>;
  v = v > 0 ? v : 0;
  v = v < kWhite<S> ? v : kWhite<S>;
  return static_cast<S>(static_cast<int32_t>((v + 12582912.0f) - 12582912.0f));
}

template <class S>
struct StoreRow {
  ZDCE_INLINE static void run(const float* from, int n, S* to, int64_t stride) {
    for (int x = 0; x < n; ++x) to[x * stride] = rounded<S>(from[x]);
  }
};

// Interleaves three planes to pixels of three values.
template <class S>
struct StoreInterleaved {
  static constexpr int kPixels = 16, kWide = 16 / sizeof(S);
  using V = typename VectorOf<S, kWide>::type;

  ZDCE_INLINE static void run(const float* const (&from)[3], int n, S* to) {
    int x = 0;
    for (; x + kPixels <= n; x += kPixels) {
      S values[3][kPixels];
      for (int c = 0; c < 3; ++c) {
        for (int i = 0; i < kPixels; i += kRegisterLanes) round(load_register(from[c] + x + i), values[c] + i);
      }
      for (int i = 0; i < kPixels; i += kWide) {
        V planes[3];
        for (int c = 0; c < 3; ++c) std::memcpy(&planes[c], values[c] + i, sizeof(V));
        store<0>(planes, to + 3 * (x + i));
        store<1>(planes, to + 3 * (x + i));
        store<2>(planes, to + 3 * (x + i));
      }
    }
    for (; x < n; ++x) {
      for (int c = 0; c < 3; ++c) to[3 * x + c] = rounded<S>(from[c][x]);
    }
  }

  // Rounds as `rounded` does.
  ZDCE_INLINE static void round(Register v, S* to) {
    if constexpr (sizeof(S) == 4) {
      std::memcpy(to, &v, sizeof(v));
    } else {
      v = smaller(larger(v * kWhite<S>, Register{}), Register{} + kWhite<S>);
      const auto values = __builtin_convertvector((v + 12582912.0f) - 12582912.0f, Lanes<int32_t>);
      // Through 16 bits: converted to 8 at once, GCC takes the values out of the vector one by one.
      const auto halves = __builtin_convertvector(values, typename VectorOf<uint16_t, kRegisterLanes>::type);
      const auto narrow = __builtin_convertvector(halves, typename VectorOf<S, kRegisterLanes>::type);
      std::memcpy(to, &narrow, sizeof(narrow));
    }
  }

  // One third of the values: value 3 * x + c comes from plane c.
  template <int kPart>
  ZDCE_INLINE static void store(const V (&planes)[3], S* to) {
    const V v = interleaved<kPart>(planes, std::make_integer_sequence<int, kWide>());
    std::memcpy(to + kPart * kWide, &v, sizeof(v));
  }

  template <int kPart, int... kLane>
  ZDCE_INLINE static V interleaved(const V (&planes)[3], std::integer_sequence<int, kLane...>) {
    constexpr int first = kPart * kWide;
    const V two = shuffle<((first + kLane) % 3 == 1 ? kWide : 0) + (first + kLane) / 3 ...>(planes[0], planes[1]);
    return shuffle<((first + kLane) % 3 == 2 ? kWide + (first + kLane) / 3 : kLane)...>(two, planes[2]);
  }
};

// Reads n pixels of row y from column x into rows[c] + to, in [0, 1].
inline void load_pixels(const Picture& picture, int y, int x, int n, float* const (&rows)[3], int to) {
  with_pixel(picture.element, [&](auto element) {
    using S = decltype(element);
    const S* const from = static_cast<const S*>(picture.data) + y * picture.row_stride + x * picture.column_stride;
    if (picture.interleaved()) return load_interleaved<S>(from, n, {rows[0] + to, rows[1] + to, rows[2] + to});
    for (int c = 0; c < 3; ++c) {
      load_row(from + c * picture.channel_stride, picture.column_stride, n, rows[c] + to);
    }
  });
}

// Writes n pixels of `height` rows from (y, x), taken from rows[k][r] + from.
inline void store_pixels(const NetworkResult& result, int y, int height, int x, int n,
                         float* const (&rows)[kMaxMaps][kBandRows], int from) {
  const Picture& to = result.picture;
  with_pixel(to.element, [&](auto element) {
    using S = decltype(element);
    for (int r = 0; r < height; ++r) {
      if (result.channels == 3 && to.interleaved()) {
        S* const pixels = static_cast<S*>(to.data) + (y + r) * to.row_stride + int64_t{3} * x;
        StoreInterleaved<S>::run({rows[0][r] + from, rows[1][r] + from, rows[2][r] + from}, n, pixels);
        continue;
      }
      for (int k = 0; k < result.channels; ++k) {
        const int64_t at = (y + r) * to.row_stride + x * to.column_stride + k * to.channel_stride;
        StoreRow<S>::run(rows[k][r] + from, n, static_cast<S*>(to.data) + at, to.column_stride);
      }
    }
  });
}

}  // namespace zdce::ZDCE_TARGET
