// float16 and bfloat16 in memory, float in arithmetic. Branch-free, so that loops over them vectorise on every
// instruction set.
#pragma once

#include <cstdint>
#include <cstring>

namespace zdce {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

inline __attribute__((always_inline)) uint32_t bits_of(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

inline __attribute__((always_inline)) float float_of(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}

template <class C>
inline __attribute__((always_inline)) C widen(float x) {
  return static_cast<C>(x);
}

template <class C>
inline __attribute__((always_inline)) C widen(double x) {
  return static_cast<C>(x);
}

template <class C>
inline __attribute__((always_inline)) C widen(BFloat16 x) {
  return static_cast<C>(float_of(static_cast<uint32_t>(x.bits) << 16));
}

// Exponent and mantissa move to float's place; a product with 2^112 rebiases the exponent, exact for subnormals too.
template <class C>
inline __attribute__((always_inline)) C widen(Half x) {
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
  const uint32_t rebiased = bits_of(float_of(magnitude) * 0x1p112f);
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity and NaN keep their mantissa
  return static_cast<C>(float_of(rebiased | special | static_cast<uint32_t>(x.bits & 0x8000) << 16));
}

template <class S>
struct Narrow {
  template <class C>
  inline __attribute__((always_inline)) static S from(C x) {
    return static_cast<S>(x);
  }
};

template <>
struct Narrow<BFloat16> {
  // Round to nearest, ties to even.
  template <class C>
  inline __attribute__((always_inline)) static BFloat16 from(C x) {
    const uint32_t u = bits_of(static_cast<float>(x));
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return {static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded)};
  }
};

template <>
struct Narrow<Half> {
  // Round to nearest, ties to even. Below 2^-14 a sum with 0.5 aligns the mantissa to float16's subnormal grid.
  template <class C>
  inline __attribute__((always_inline)) static Half from(C x) {
    const uint32_t u = bits_of(static_cast<float>(x));
    const uint32_t magnitude = u & 0x7fffffffu;
    const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
    const uint32_t overflow = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    return {static_cast<uint16_t>((magnitude >= 0x477ff000u ? overflow : finite) | (u >> 16 & 0x8000u))};
  }
};

}  // namespace zdce
