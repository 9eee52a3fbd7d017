// Tensors for kernels: (B, C, H, W) with any strides.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "element.h"
#include "limits.h"

namespace zdce {

// (B, C, H, W), or (B, C, P) as one row of P pixels.
struct Planes {
  char* data;
  Element element;  // a floating one
  int64_t batch, channels, height, width;
  int64_t batch_stride, channel_stride, row_stride, pixel_stride;  // in bytes
};

inline char* address(const Planes& t, int64_t b, int64_t c, int64_t y, int64_t x) {
  return t.data + b * t.batch_stride + c * t.channel_stride + y * t.row_stride + x * t.pixel_stride;
}

inline void check_shape(const Planes& t, const char* name, int64_t batch, int64_t channels, int64_t height,
                        int64_t width) {
  if (t.batch != batch || t.channels != channels || t.height != height || t.width != width) {
    const auto shape = [](int64_t b, int64_t c, int64_t h, int64_t w) {
      return "(" + std::to_string(b) + ", " + std::to_string(c) + ", " + std::to_string(h) + ", " + std::to_string(w) +
             ")";
    };
    throw std::runtime_error(std::string("zdce: ") + name + " must be " + shape(batch, channels, height, width) +
                             ", got " + shape(t.batch, t.channels, t.height, t.width));
  }
}

inline void check_iterations(int64_t iterations) {
  if (iterations < 1 || iterations > kMaxIterations) {
    throw std::runtime_error("zdce: iterations must be 1 to " + std::to_string(kMaxIterations) + ", got " +
                             std::to_string(iterations));
  }
}

// image: (B, 3, H, W); maps: (B, 3 T, H, W) or, shared by all steps, (B, 3, H, W).
inline void check_curve(const Planes& image, const Planes& maps, const char* maps_name, int64_t iterations) {
  check_iterations(iterations);
  check_shape(image, "image", image.batch, 3, image.height, image.width);
  check_shape(maps, maps_name, image.batch, maps.channels == 3 ? 3 : 3 * iterations, image.height, image.width);
}

inline bool in_double(const Planes& a, const Planes& b) {
  return a.element == Element::kDouble || b.element == Element::kDouble;
}

}  // namespace zdce
