// Rows of interleaved pixels in registers, one colour at a time.
#pragma once

#include "lanes.h"

namespace zdce::ZDCE_TARGET {

// 64 columns of an aligned picture are whole cache lines.
constexpr int kBlockColumns = 64;
constexpr int kBlockGroups = kBlockColumns / kRegisterLanes;

using Ints = Lanes<int32_t>;
#if ZDCE_REGISTER_BYTES == 64
// Lane i of the result is lane at[i] of v.
ZDCE_INLINE Register permuted(Register v, Ints at) {
#if defined(__clang__)
  return reinterpret_cast<Register>(_mm512_permutexvar_ps(reinterpret_cast<__m512i>(at), reinterpret_cast<__m512>(v)));
#else
  return __builtin_shuffle(v, at);
#endif
}
#endif

ZDCE_INLINE void load_four(const uint16_t* from, Floats4& v) {
  v = __builtin_convertvector(widened_four<false>(from), Floats4);
}

ZDCE_INLINE void load_four(const float* from, Floats4& v) { std::memcpy(&v, from, sizeof(v)); }

// The colours of four pixels, which begin at from, as numbers: v[c] of colour c. Every instruction set has shuffles for
// vectors of 16 bytes. Of 8-bit pixels 4 bytes after these 12 are read, too.
template <class S>
ZDCE_INLINE void load_four_pixels(const S* from, Floats4 (&v)[3]) {
  if constexpr (sizeof(S) == 1) {
    Bytes16 bytes, zero{};
    std::memcpy(&bytes, from, sizeof(bytes));
    const auto of_color = [&]<int c>(std::integral_constant<int, c>) ZDCE_INLINE_LAMBDA {
      const Bytes16 wide = shuffle<c, 16, 16, 16, c + 3, 16, 16, 16, c + 6, 16, 16, 16, c + 9, 16, 16, 16>(bytes, zero);
      v[c] = __builtin_convertvector(reinterpret_cast<Ints4>(wide), Floats4);
    };
    of_color(std::integral_constant<int, 0>()), of_color(std::integral_constant<int, 1>());
    of_color(std::integral_constant<int, 2>());
  } else {
    Floats4 a, b, c;  // r0 g0 b0 r1, g1 b1 r2 g2, b2 r3 g3 b3
    load_four(from, a), load_four(from + 4, b), load_four(from + 8, c);
    v[0] = shuffle<0, 1, 2, 5>(shuffle<0, 3, 6, 6>(a, b), c);
    v[1] = shuffle<0, 1, 2, 6>(shuffle<1, 4, 7, 7>(a, b), c);
    v[2] = shuffle<0, 1, 4, 7>(shuffle<2, 5, 5, 5>(a, b), c);
  }
}

// A row of pixels for arithmetic: 8-bit pixels as one word each, others as three planes of floats.
template <class E>
struct Row {
  alignas(64) float planes[3][kBlockColumns];
  static_assert(sizeof(E) == 2 || sizeof(E) == 4);

  ZDCE_INLINE void unpack(const char* from) {
    for (int i = 0; i < kBlockColumns; i += 4) {
      Floats4 v[3];
      load_four_pixels(reinterpret_cast<const E*>(from) + 3 * i, v);
      for (int j = 0; j < 3; ++j) {
        v[j] *= 1 / kWhite<E>;
        std::memcpy(planes[j] + i, &v[j], sizeof(v[j]));
      }
    }
  }

  ZDCE_INLINE void pack(char* to) const {
    for (int i = 0; i < kBlockColumns; i += 4) {
      Floats4 v[3];
      for (int j = 0; j < 3; ++j) std::memcpy(&v[j], planes[j] + i, sizeof(v[j]));
      const Floats4 r = v[0], g = v[1], b = v[2];
      const Floats4 low = shuffle<0, 4, 1, 5>(r, g), high = shuffle<2, 6, 3, 7>(r, g);
      v[0] = shuffle<0, 1, 4, 2>(low, b);
      v[1] = shuffle<0, 1, 4, 5>(shuffle<3, 5, 5, 5>(low, b), high);
      v[2] = shuffle<6, 2, 3, 7>(high, b);
      for (int j = 0; j < 3; ++j) store_four(to + (3 * i + 4 * j) * sizeof(E), v[j]);
    }
  }

  ZDCE_INLINE static void store_four(char* to, Floats4 v) {
    if constexpr (sizeof(E) == 4) {
      std::memcpy(to, &v, sizeof(v));
    } else {
      const Halves8 halves = reinterpret_cast<Halves8>(__builtin_convertvector(v, Ints4));
      const Halves8 low = shuffle<0, 2, 4, 6, 0, 2, 4, 6>(halves, halves);
      std::memcpy(to, &low, 8);
    }
  }

  ZDCE_INLINE Register get(int c, int group) const { return load_register(planes[c] + group * kRegisterLanes); }

  // Rounds to integers: from 2^23 on, floats are whole numbers.
  ZDCE_INLINE void put(int c, int group, Register x) {
    if constexpr (kWhite<E> > 1) x = (x * kWhite<E> + 0x1p23f) - 0x1p23f;
    store_register(planes[c] + group * kRegisterLanes, x);
  }
};

template <>
struct Row<uint8_t> {
  // Red is in the lowest byte; the highest byte is not used.
  alignas(64) uint32_t words[kBlockColumns];
  alignas(64) uint32_t enhanced[kBlockColumns];

  ZDCE_INLINE void unpack(const char* from) {
    for (int i = 0; i < kBlockColumns; i += 4) {
      // Reads 16 bytes for 12. The last four pixels are read 4 bytes earlier, so that nothing beyond the row is
      // touched.
      const int before = i + 4 < kBlockColumns ? 0 : 4;
      Bytes16 v;
      std::memcpy(&v, from + 3 * i - before, sizeof(v));
      v = before ? shuffle<4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12, 12, 13, 14, 15, 15>(v, v)
                 : shuffle<0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11>(v, v);
      std::memcpy(words + i, &v, sizeof(v));
    }
  }

  ZDCE_INLINE void pack(char* to) const {
    for (int i = 0; i < kBlockColumns; i += 4) {
      Bytes16 v;
      std::memcpy(&v, enhanced + i, sizeof(v));
      v = shuffle<0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 12, 13, 14, 14>(v, v);
      std::memcpy(to + 3 * i, &v, i + 4 < kBlockColumns ? sizeof(v) : 12);
    }
  }

  ZDCE_INLINE Register get(int c, int group) const {
    Ints v;
    std::memcpy(&v, words + group * kRegisterLanes, sizeof(v));
    return __builtin_convertvector((v >> (8 * c)) & 255, Register) * (1 / 255.0f);
  }

  // Adding 2^23 rounds to a whole number, which is then in the low bits; of the exponent's bytes only the highest is
  // not 0. The next colours are put between them. Red comes first.
  ZDCE_INLINE void put(int c, int group, Register x) {
    const Register rounded = x * 255.0f + 0x1p23f;
    Ints bits, v{};
    std::memcpy(&bits, &rounded, sizeof(bits));
    if (c > 0) std::memcpy(&v, enhanced + group * kRegisterLanes, sizeof(v));
    v |= bits << (8 * c);
    std::memcpy(enhanced + group * kRegisterLanes, &v, sizeof(v));
  }
};

}  // namespace zdce::ZDCE_TARGET
