// Tensors of PyTorch as csrc/core takes them.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "../core/kernels.h"
#include "../core/operations.h"
#include "element_of.h"

namespace zdce {

// tensor: (B, C, H, W), or (B, C, P) as one row of P pixels; any strides. Throws where it is not on the CPU, not of
// that many dimensions or not of a floating type.
inline Planes planes(const Tensor& tensor, const char* name, int64_t dim = 4) {
  if (!tensor.is_cpu() || tensor.dim() != dim) {
    throw std::runtime_error(std::string("zdce: ") + name + " must be a CPU tensor of shape " +
                             (dim == 4 ? "(B, C, H, W)" : "(B, C, P)"));
  }
  const Element element = element_of(tensor);
  if (element == Element::kUint8 || element == Element::kUint16) {
    throw std::runtime_error("zdce: tensors must be float64, float32, bfloat16 or float16");
  }
  const int64_t bytes = bytes_of(element);
  const bool rows = dim == 4;
  return {static_cast<char*>(tensor.data_ptr()),
          element,
          tensor.size(0),
          tensor.size(1),
          rows ? tensor.size(2) : 1,
          tensor.size(dim - 1),
          tensor.stride(0) * bytes,
          tensor.stride(1) * bytes,
          rows ? tensor.stride(2) * bytes : 0,
          tensor.stride(dim - 1) * bytes};
}

// tensor: (H, W, 3), any strides. Throws where it is not, and where its type is none of a picture's.
inline Picture picture(const Tensor& tensor, const char* name) {
  if (!tensor.is_cpu() || tensor.dim() != 3 || tensor.size(2) != 3) {
    throw std::runtime_error(std::string("zdce: ") + name + " must be a CPU tensor of shape (H, W, 3)");
  }
  const Element element = element_of(tensor);
  with_pixel(element, [](auto) {});
  return {tensor.data_ptr(), element,          tensor.size(0),  tensor.size(1),
          tensor.stride(0),  tensor.stride(1), tensor.stride(2)};
}

// A small contiguous tensor of float or double: statistics, their gradients, parameters.
inline void* grid(const Tensor& tensor, const char* name, Element element, std::initializer_list<int64_t> shape) {
  bool fits = tensor.is_cpu() && element_of(tensor) == element && tensor.is_contiguous() &&
              tensor.dim() == static_cast<int64_t>(shape.size());
  std::string expected;
  for (int64_t i = 0; const int64_t size : shape) {
    fits = fits && tensor.size(i++) == size;
    expected += (expected.empty() ? "(" : ", ") + std::to_string(size);
  }
  if (!fits) {
    throw std::runtime_error(std::string("zdce: ") + name + " must be a contiguous CPU tensor " + expected + ") of " +
                             (element == Element::kDouble ? "float64" : "float32"));
  }
  return tensor.data_ptr();
}

inline float* floats(const Tensor& tensor, const char* name, std::initializer_list<int64_t> shape) {
  return static_cast<float*>(grid(tensor, name, Element::kFloat, shape));
}

// The type of a kernel's statistics: double where one of its tensors is.
inline Element statistic(const Planes& a) { return a.element == Element::kDouble ? a.element : Element::kFloat; }
inline Element statistic(const Planes& a, const Planes& b) {
  return in_double(a, b) ? Element::kDouble : Element::kFloat;
}

}  // namespace zdce
