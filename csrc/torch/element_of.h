// The type of a tensor's elements, as csrc/core names it; for tensors of every device.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <stdexcept>

#include "../core/element.h"

namespace zdce {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Element element_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return Element::kDouble;
    case ScalarType::Float:
      return Element::kFloat;
    case ScalarType::Half:
      return Element::kHalf;
    case ScalarType::BFloat16:
      return Element::kBFloat16;
    case ScalarType::Byte:
      return Element::kUint8;
    case ScalarType::UInt16:
      return Element::kUint16;
    default:
      throw std::runtime_error("zdce: tensors must be floating, uint8 or uint16");
  }
}

}  // namespace zdce
