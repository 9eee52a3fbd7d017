// Types of the elements of pictures and tensors.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "halves.h"

namespace zdce {

enum class Element { kUint8, kUint16, kHalf, kBFloat16, kFloat, kDouble };

constexpr int64_t bytes_of(Element element) {
  switch (element) {
    case Element::kUint8:
      return 1;
    case Element::kFloat:
      return 4;
    case Element::kDouble:
      return 8;
    default:
      return 2;
  }
}

template <class C>
constexpr Element kElement = sizeof(C) == 8 ? Element::kDouble : Element::kFloat;

// The element that means 1: 255 in 8 bits, 65535 in 16 bits, 1 in float.
template <class E>
constexpr float kWhite = 1;
template <>
inline constexpr float kWhite<uint8_t> = 255;
template <>
inline constexpr float kWhite<uint16_t> = 65535;

// Calls f with a value of a tensor's element type.
template <class F>
inline __attribute__((always_inline)) void with_element(Element element, const F& f) {
  switch (element) {
    case Element::kDouble:
      return f(double{});
    case Element::kFloat:
      return f(float{});
    case Element::kHalf:
      return f(Half{});
    case Element::kBFloat16:
      return f(BFloat16{});
    default:
      throw std::runtime_error("zdce: tensors must be float64, float32, bfloat16 or float16");
  }
}

// Calls f with a value of a picture's element type.
template <class F>
inline __attribute__((always_inline)) void with_pixel(Element element, const F& f) {
  switch (element) {
    case Element::kUint8:
      return f(uint8_t{});
    case Element::kUint16:
      return f(uint16_t{});
    case Element::kFloat:
      return f(float{});
    default:
      throw std::runtime_error("zdce: pictures must be uint8, uint16 or float32");
  }
}

}  // namespace zdce
