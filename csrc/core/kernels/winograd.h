// 3x3 convolutions by Winograd's F(4x4, 3x3): 36 products for 16 outputs instead of 144. Lavin and Gray, CVPR 2016.
#pragma once

#include "lanes.h"

namespace zdce::ZDCE_TARGET {

// A block of 16 channels takes kBlockRegisters registers.
constexpr int kBlockRegisters = kBlock / kRegisterLanes;

// from[0], kTogether = 2: from[0], from[1], from[0], from[1], ...
template <int kTogether>
ZDCE_INLINE auto repeat(const float* from) {
  if constexpr (kTogether == 1) {
    return *from;
  } else {
#if ZDCE_REGISTER_BYTES == 32 && !defined(__clang__)
    // GCC 12 would load a whole register and shuffle it. In Clang's header the instruction's function reads a double
    // where there are floats, which the language forbids.
    return reinterpret_cast<Register>(_mm256_broadcast_sd(reinterpret_cast<const double*>(from)));
#else
    typedef double Pairs __attribute__((vector_size(ZDCE_REGISTER_BYTES)));
    double pair;
    std::memcpy(&pair, from, sizeof(pair));
    Pairs pairs{};
    for (int i = 0; i < kRegisterLanes / 2; ++i) pairs[i] = pair;
    return reinterpret_cast<Register>(pairs);
#endif
  }
}

// B^T d, two of the six coefficients of the values d at a time, 4 operations each: at 0 and infinity (kPair 0), a and
// -a (1), b and -b (2). With AVX2 a product and two sums in the place of the last two: on Zen sums have units
// of their own, and those that multiply are busy here. Where both share units it is one operation more.
template <int kPair, class V>
ZDCE_INLINE void transform_input(const V (&d)[6], V& first, V& second) {
  if constexpr (kPair == 0) {
    first = kA2 * kB2 * d[0] + (d[4] - (kA2 + kB2) * d[2]);
    second = kA2 * kB2 * d[1] + (d[5] - (kA2 + kB2) * d[3]);
  } else {
    constexpr float own = kPair == 1 ? kA : kB, other2 = kPair == 1 ? kB2 : kA2;
    const V even = d[4] - other2 * d[2], odd = d[3] - other2 * d[1];
#if ZDCE_REGISTER_BYTES == 32
    V scaled = own * odd;
    asm("" : "+x"(scaled));  // or the compiler joins them again
    first = even + scaled;
    second = even - scaled;
#else
    first = even + own * odd;
    second = even - own * odd;
#endif
  }
}

// The places of a pair's coefficients among the six.
constexpr int kFirst[3] = {0, 1, 3}, kSecond[3] = {5, 2, 4};

// A^T m: four outputs of six products.
template <class V>
ZDCE_INLINE void transform_output(const V (&m)[6], V (&y)[4]) {
  const V sum_a = m[1] + m[2], difference_a = m[1] - m[2];
  const V sum_b = m[3] + m[4], difference_b = m[3] - m[4];
  y[0] = m[0] + (sum_a + sum_b);
  y[1] = kA * difference_a + kB * difference_b;
  y[2] = kA2 * sum_a + kB2 * sum_b;
  y[3] = kA3 * difference_a + (kB3 * difference_b + m[5]);
}

// A^T m + bias.
template <class V>
ZDCE_INLINE void transform_output(const V (&m)[6], V bias, V (&y)[4]) {
  const V sum_a = m[1] + m[2], difference_a = m[1] - m[2];
  const V sum_b = m[3] + m[4], difference_b = m[3] - m[4];
  y[0] = (m[0] + bias) + (sum_a + sum_b);
  y[1] = kA * difference_a + (kB * difference_b + bias);
  y[2] = kA2 * sum_a + (kB2 * sum_b + bias);
  y[3] = kA3 * difference_a + (kB3 * difference_b + (m[5] + bias));
}

// Two of the six rows of coefficients of a strip of tiles. A column's pair serves up to two tiles and stays in
// registers. rows: six rows of one block of channels, at the column before the first tile; tiles of 4 columns lie side
// by side. coefficients: rows kFirst[kPair] and kSecond[kPair] of six, (12, kTiles, 16). All distances must be
// constants: GCC keeps variable ones in vector registers, and moving them out takes the port of the multiplications.
template <int kPair, int kTiles>
ZDCE_INLINE void input_pair(const float* const (&rows)[6], int tiles, float* coefficients) {
  constexpr int point = kTiles * kBlock;
  Register first[6], second[6];
  const auto column = [&](int64_t at, int to) ZDCE_INLINE_LAMBDA {
    Register d[6];
    for (int y = 0; y < 6; ++y) d[y] = load_register(rows[y] + at * kBlock);
    transform_input<kPair>(d, first[to], second[to]);
  };
  const auto across = [&](const Register(&d)[6], float* to) ZDCE_INLINE_LAMBDA {
    Register v[6];
    transform_input<0>(d, v[kFirst[0]], v[kSecond[0]]);
    transform_input<1>(d, v[kFirst[1]], v[kSecond[1]]);
    transform_input<2>(d, v[kFirst[2]], v[kSecond[2]]);
    for (int x = 0; x < 6; ++x) store_register(to + x * point, v[x]);
  };
  column(0, 4);
  column(1, 5);
  for (int64_t t = 0; t < tiles; ++t) {
    for (int x = 0; x < 2; ++x) first[x] = first[x + 4], second[x] = second[x + 4];
    for (int x = 2; x < 6; ++x) column(4 * t + x, x);
    across(first, coefficients + t * kBlock);
    across(second, coefficients + 6 * point + t * kBlock);
  }
}

// Number of tiles side by side: the most that leave registers for the weights of each part and for one value.
constexpr int kStripTiles = ZDCE_STRIP_TILES;

// Distances between the coefficients or products of a strip at neighbouring points, and between the products of
// neighbouring blocks of channels.
constexpr int kStripPoint = kStripTiles * kBlock, kStripProducts = kPoints * kStripPoint;

// One tile of a block of output channels. products: six by six, kStripPoint floats apart. Calls put(y, x, part, value)
// for its sixteen pixels.
template <class F>
ZDCE_INLINE void output_tile(const float* products, const float* bias, const F& put) {
  // Four rows of six values need 24 registers. With fewer, first rows 0 and 2, which are sums of the products, then 1
  // and 3, which are differences.
  constexpr int halves = kProcessorRegisters > 24 ? 1 : 2;
  for (int part = 0; part < kBlockRegisters; ++part) {
    const int lane = part * kRegisterLanes;
    const Register b = load_register(bias + lane);
    ZDCE_UNROLL(2)
    for (int half = 0; half < halves; ++half) {
      Register columns[4][6];
      for (int x = 0; x < 6; ++x) {
        Register m[6], y[4];
        for (int k = 0; k < 6; ++k) m[k] = load_register(products + (6 * k + x) * kStripPoint + lane);
        transform_output(m, y);
        for (int k = half; k < 4; k += halves) columns[k][x] = y[k];
      }
      for (int k = half; k < 4; k += halves) {
        Register y[4];
        transform_output(columns[k], b, y);
        for (int x = 0; x < 4; ++x) put(k, x, part, y[x]);
      }
    }
  }
}

// results[t] = sum over channels of v[t][channel] * weights[channel]: each weight is loaded once for kTiles
// multiplications, each value broadcast from memory. kTogether = 2 is for 8 outputs: lanes 2 i and 2 i + 1 of the
// registers hold output i's sums over even and odd channels, so that all lanes are used. v: (blocks, kPitch, 16), the
// first kTiles rows used, so that a value's distance from the first is a constant of the instruction; weights:
// (channels, 16), of kTogether = 2, whose channels are even, (channels / 2, 8, 2); results: (kTiles, 16).
template <int kTogether, int kTiles, int kPitch>
ZDCE_INLINE void multiply(const float* v, int channels, const float* weights, float* results) {
  Register sums[kTiles][kBlockRegisters];
  const auto add = [&](const float* values, auto first) ZDCE_INLINE_LAMBDA {
    Register w[kBlockRegisters];
    for (int p = 0; p < kBlockRegisters; ++p) w[p] = load_register(weights + p * kRegisterLanes);
    weights += kBlock;
    ZDCE_UNROLL(16)
    for (int t = 0; t < kTiles; ++t) {
      const auto value = repeat<kTogether>(values + t * kBlock);
      for (int p = 0; p < kBlockRegisters; ++p) {
        if constexpr (first) {
          sums[t][p] = w[p] * value;
        } else {
          sums[t][p] += w[p] * value;
        }
      }
    }
  };
  // Not added to zeros: on Zen 3 the stores of the results before slow multiplications that add, but not plain ones.
  add(v, std::true_type());
  for (int base = 0, channel = kTogether; base < channels; base += kBlock, channel = 0, v += kPitch * kBlock) {
    for (; channel < std::min(kBlock, channels - base); channel += kTogether) add(v + channel, std::false_type());
  }
  ZDCE_UNROLL(16)
  for (int t = 0; t < kTiles; ++t) {
    for (int p = 0; p < kBlockRegisters; ++p) store_register(results + t * kBlock + p * kRegisterLanes, sums[t][p]);
  }
}

// The products of n <= kTiles rows with all blocks of output channels, of which the last may be half a block.
// v: (blocks, kPitch, 16); weights: (output blocks, channels, 16), then (channels / 2, 8, 2); results: (kTiles, 16) of
// each output block, kResults floats apart.
template <int kTiles, int kPitch, int kResults>
ZDCE_INLINE void multiply_rows(int n, const float* v, int channels, const float* weights, int blocks, bool half,
                               float* results) {
  if constexpr (kTiles > 2) {
    if (n <= kTiles - 2) {
      return multiply_rows<kTiles - 2, kPitch, kResults>(n, v, channels, weights, blocks, half, results);
    }
  }
  for (int o = 0; o < blocks; ++o) {
    multiply<1, kTiles, kPitch>(v, channels, weights + o * channels * kBlock, results + o * kResults);
  }
  if (half) {
    multiply<2, kTiles, kPitch>(v, channels, weights + blocks * channels * kBlock, results + blocks * kResults);
  }
}

}  // namespace zdce::ZDCE_TARGET
