// The instructions of AVX-512 and of the matrix unit (AMX) that the kernels name, for processors without them. The
// compiler takes vectors of 64 bytes apart.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace zdce::emulated {

// 16 rows of 16 floats, or of 32 values in bfloat16.
struct Matrix {
  float rows[16][16];
};
inline thread_local Matrix matrices[8];

inline float widened(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// To the nearest, halves to even; subnormals become 0, and NaN stays NaN.
inline uint16_t narrowed(float value) {
  if (std::fpclassify(value) == FP_SUBNORMAL) value = std::copysign(0.0f, value);
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline void load(Matrix& matrix, const void* from, int64_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(matrix.rows[r], static_cast<const char*>(from) + r * stride, 64);
}

inline void store(const Matrix& matrix, void* to, int64_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(static_cast<char*>(to) + r * stride, matrix.rows[r], 64);
}

// values: (16, 16, 2); weights: (16 of the values' pairs, 16 outputs, 2).
inline void multiply(Matrix& sums, const Matrix& values, const Matrix& weights) {
  uint16_t x[16][16][2], w[16][16][2];
  std::memcpy(x, &values, sizeof(x)), std::memcpy(w, &weights, sizeof(w));
  for (int r = 0; r < 16; ++r) {
    for (int pair = 0; pair < 16; ++pair) {
      const float first = widened(x[r][pair][0]), second = widened(x[r][pair][1]);
      for (int o = 0; o < 16; ++o) {
        sums.rows[r][o] += first * widened(w[pair][o][0]) + second * widened(w[pair][o][1]);
      }
    }
  }
}

template <class Halves, class Floats>
void round(Halves& halves, const Floats& values) {
  for (int i = 0; i < 16; ++i) halves[i] = static_cast<int16_t>(narrowed(values[i]));
}

template <class Floats>
void look_up(Floats& values, const Floats& places, const float (&table)[16]) {
  uint32_t at[16];
  std::memcpy(at, &places, sizeof(at));
  for (int i = 0; i < 16; ++i) values[i] = table[at[i] % 16];
}

inline __m512i joined(__m256i first, __m256i second) {
  __m512i both;
  std::memcpy(&both, &first, sizeof(first));
  std::memcpy(reinterpret_cast<char*>(&both) + sizeof(first), &second, sizeof(second));
  return both;
}

}  // namespace zdce::emulated

#define _mm512_stream_ps(to, v) (*reinterpret_cast<__m512*>(to) = (v))
#define _mm512_maskz_min_ps(mask, a, b) (static_cast<void>(mask), (a) < (b) ? (a) : (b))
#define _mm512_maskz_max_ps(mask, a, b) (static_cast<void>(mask), (a) > (b) ? (a) : (b))
#define _mm512_permutexvar_ps(at, v) __builtin_shuffle(v, reinterpret_cast<__v16si>(at))
#define _mm512_castsi256_si512(v) (v)
#define _mm512_inserti64x4(first, second, at) ::zdce::emulated::joined(first, second)

#define ZDCE_MATRIX_CONFIGURE(configuration) static_cast<void>(configuration)
#define ZDCE_MATRIX_RELEASE() static_cast<void>(0)
#define ZDCE_MATRIX_LOAD(number, from, stride) ::zdce::emulated::load(::zdce::emulated::matrices[number], from, stride)
#define ZDCE_MATRIX_STORE(number, to, stride) ::zdce::emulated::store(::zdce::emulated::matrices[number], to, stride)
#define ZDCE_MATRIX_ZERO(number) ::zdce::emulated::matrices[number] = {}
#define ZDCE_MATRIX_MULTIPLY(sums, values, weights)                                                \
  ::zdce::emulated::multiply(::zdce::emulated::matrices[sums], ::zdce::emulated::matrices[values], \
                             ::zdce::emulated::matrices[weights])
#define ZDCE_ROUND_HALVES(halves, values) ::zdce::emulated::round(halves, values)
#define ZDCE_LOOK_UP(values, places, table) ::zdce::emulated::look_up(values, places, table)
