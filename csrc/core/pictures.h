// Pictures as they are decoded: (H, W, 3), interleaved, of uint8, uint16 or float; rows may lie apart.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "isa.h"
#include "lanes.h"
#include "white.h"

namespace zdce {

struct Picture {
  char* data;
  torch::headeronly::ScalarType dtype;
  int64_t height, width;
  int64_t row_stride;  // in bytes

  char* row(int64_t y) const { return data + y * row_stride; }
};

// Calls f with a value of the picture's element type.
template <class F>
void with_pixel(torch::headeronly::ScalarType dtype, const F& f) {
  using torch::headeronly::ScalarType;
  switch (dtype) {
    case ScalarType::Byte:
      return f(uint8_t{});
    case ScalarType::UInt16:
      return f(uint16_t{});
    case ScalarType::Float:
      return f(float{});
    default:
      throw std::runtime_error("zdce: pictures must be uint8, uint16 or float32");
  }
}

// tensor: (H, W, 3), the pixels of a row contiguous. Throws where it is not.
inline Picture picture(const torch::stable::Tensor& tensor, const char* name) {
  if (!tensor.is_cpu() || tensor.dim() != 3 || tensor.size(2) != 3 || tensor.stride(2) != 1 ||
      (tensor.stride(1) != 3 && tensor.size(1) > 1)) {
    throw std::runtime_error(std::string("zdce: ") + name +
                             " must be a CPU tensor of shape (H, W, 3), rows contiguous");
  }
  int64_t bytes = 0;
  with_pixel(tensor.scalar_type(), [&](auto element) { bytes = sizeof(element); });
  return {static_cast<char*>(tensor.data_ptr()), tensor.scalar_type(), tensor.size(0), tensor.size(1),
          tensor.stride(0) * bytes};
}

inline void check_scale(int64_t scale) {
  if (scale < 1 || scale > (int64_t{1} << 31)) {
    throw std::runtime_error("zdce: scale must be 1 to 2^31, got " + std::to_string(scale));
  }
}

inline int64_t small_side(int64_t side, int64_t scale) { return (side + scale - 1) / scale; }

}  // namespace zdce
