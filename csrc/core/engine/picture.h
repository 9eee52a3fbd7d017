// Pictures as the engine reads and writes them: 8 or 16 bits or float, interleaved or planar.
#pragma once

#include "../isa.h"
#include "../white.h"
#include "bands.h"

namespace zdce::engine {

enum class Element { kUint8, kUint16, kFloat };

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

// (H, W, 3), its strides in elements.
struct Picture {
  const void* data;
  Element element;
  int height, width;
  int64_t row_stride, column_stride, channel_stride;

  // n pixels of row y from column x on into rows[c] + to, in [0, 1].
  void load(Isa isa, int y, int x, int n, float* const (&rows)[3], int to) const {
    for (int c = 0; c < 3; ++c) {
      const int64_t at = y * row_stride + x * column_stride + c * channel_stride;
      switch (element) {
        case Element::kUint8:
          load_row(isa, static_cast<const uint8_t*>(data) + at, n, rows[c] + to);
          break;
        case Element::kUint16:
          load_row(isa, static_cast<const uint16_t*>(data) + at, n, rows[c] + to);
          break;
        case Element::kFloat:
          load_row(isa, static_cast<const float*>(data) + at, n, rows[c] + to);
      }
    }
  }

 private:
  template <class S>
  void load_row(Isa isa, const S* from, int n, float* to) const {
    dispatch<LoadRow<S>>(isa, from, column_stride, n, to);
  }
};

// The enhanced picture (H, W, 3), or the curve maps (C, H, W) where `maps` is set; strides in elements.
struct Target {
  void* data;
  Element element;
  bool maps;
  int channels;
  float strength;
  int64_t row_stride, column_stride, channel_stride;

  // n pixels of `height` rows from (y, x) on, from rows[k][r] + from.
  void store(Isa isa, int y, int height, int x, int n, float* const (&rows)[kMaxMaps][kRows], int from) const {
    for (int r = 0; r < height; ++r) {
      for (int k = 0; k < channels; ++k) {
        const int64_t at = (y + r) * row_stride + x * column_stride + k * channel_stride;
        switch (element) {
          case Element::kUint8:
            store_row(isa, rows[k][r] + from, n, static_cast<uint8_t*>(data) + at);
            break;
          case Element::kUint16:
            store_row(isa, rows[k][r] + from, n, static_cast<uint16_t*>(data) + at);
            break;
          case Element::kFloat:
            store_row(isa, rows[k][r] + from, n, static_cast<float*>(data) + at);
        }
      }
    }
  }

 private:
  template <class S>
  void store_row(Isa isa, const float* from, int n, S* to) const {
    dispatch<StoreRow<S>>(isa, from, n, to, column_stride);
  }
};

}  // namespace zdce::engine
