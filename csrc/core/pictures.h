// Pictures as they are decoded: (H, W, 3), of uint8, uint16 or float in [0, 1].
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "element.h"
#include "limits.h"

namespace zdce {

struct Picture {
  void* data;
  Element element;
  int64_t height, width;
  int64_t row_stride, column_stride, channel_stride;  // in elements

  char* row(int64_t y) const { return static_cast<char*>(data) + y * row_stride * bytes_of(element); }
  // Whether a row's pixels are adjacent in memory, as most kernels require.
  bool interleaved() const { return channel_stride == 1 && (column_stride == 3 || width <= 1); }
};

inline void check_scale(int64_t scale) {
  if (scale < 1 || scale > kMaxScale) {
    throw std::runtime_error("zdce: scale must be 1 to " + std::to_string(kMaxScale) + ", got " +
                             std::to_string(scale));
  }
}

inline int64_t small_side(int64_t side, int64_t scale) { return (side + scale - 1) / scale; }

}  // namespace zdce
