// Sums of a picture's rows.
#pragma once

#include "lanes.h"

namespace zdce::ZDCE_TARGET::reduce_picture {

template <class E, class Sum>
void add(const char* from, int64_t stride, int64_t rows, int64_t n, Sum* sums) {
  for (int64_t y = 0; y < rows; ++y) {
    const E* const row = reinterpret_cast<const E*>(from + y * stride);
    for (int64_t i = 0; i < n; ++i) sums[i] += row[i];
  }
}

inline void add_rows(Element element, const char* from, int64_t stride, int64_t rows, int64_t n, void* sums) {
  switch (element) {
    case Element::kUint8:
      return add<uint8_t>(from, stride, rows, n, static_cast<uint16_t*>(sums));
    case Element::kUint16:
      return add<uint16_t>(from, stride, rows, n, static_cast<uint32_t*>(sums));
    default:
      return add<float>(from, stride, rows, n, static_cast<double*>(sums));
  }
}

}  // namespace zdce::ZDCE_TARGET::reduce_picture
