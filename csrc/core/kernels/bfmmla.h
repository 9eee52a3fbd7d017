// Convolutions in bfloat16 with Arm's BF16 extension. One BFMMLA multiplies 4 values of 2 pixels with 4 weights of 2
// outputs: 16 products, where float32 has 4 per instruction. Sums are float32; each sum of two products is rounded to
// odd.
#pragma once

#include "matrix_band.h"

namespace zdce::ZDCE_TARGET {

#if ZDCE_HAS_BFMMLA

typedef uint32_t BFloat16Pairs __attribute__((vector_size(16)));  // two values a lane
typedef uint64_t BFloat16Fours __attribute__((vector_size(16)));  // four values a lane

template <class V>
ZDCE_INLINE V load_values(const BFloat16* from) {
  V v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

// Only functions between these two macros may contain instructions of the extension, because other kernels of this
// instruction set run on processors without it. These functions are never inlined into others.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("+bf16")
#endif

// Calls f(0), f(1), ... with constant arguments. In an unrolled loop GCC would keep the sums in memory.
template <int kTimes, class F>
ZDCE_INLINE void each(const F& f) {
  [&]<int... kAt>(std::integer_sequence<int, kAt...>)
      ZDCE_INLINE_LAMBDA { (f(std::integral_constant<int, kAt>()), ...); }(std::make_integer_sequence<int, kTimes>());
}

// Written in assembler: Clang 14 offers the intrinsics only if the whole file is compiled for such processors.
ZDCE_INLINE void multiply_add(Register& sums, BFloat16Fours values, BFloat16Fours weights) {
  asm("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(sums) : "w"(values), "w"(weights));
}

// 8 pixels and 8 outputs. sums[i][j]: pixel 2 i with outputs 2 j and 2 j + 1, then pixel 2 i + 1.
struct BfmmlaTile {
  static constexpr int kPixels = 8, kOutputs = 8;

  Register sums[4][4] = {};

  // Adds the products of `count` values (a multiple of 8, at most 32) of pixels that are `pitch` apart. weights: (16
  // pairs, 16 outputs, 2).
  ZDCE_INLINE void add(const BFloat16* values, int64_t pitch, const BFloat16* weights, int count) {
    for (int k = 0; k < count; k += 8, values += 8, weights += 8 * kBlock) {
      add_four<0>(values, pitch, weights);
      add_four<1>(values, pitch, weights + 4 * kBlock);
    }
  }

  // The first or the second four of eight values.
  template <int kFour>
  ZDCE_INLINE void add_four(const BFloat16* values, int64_t pitch, const BFloat16* weights) {
    BFloat16Fours w[4];  // four values each of two outputs
    each<2>([&](auto j) ZDCE_INLINE_LAMBDA {
      const auto first = load_values<BFloat16Pairs>(weights + 8 * j),
                 second = load_values<BFloat16Pairs>(weights + 8 * j + 2 * kBlock);
      w[2 * j] = reinterpret_cast<BFloat16Fours>(shuffle<0, 4, 1, 5>(first, second));
      w[2 * j + 1] = reinterpret_cast<BFloat16Fours>(shuffle<2, 6, 3, 7>(first, second));
    });
    each<4>([&](auto i) ZDCE_INLINE_LAMBDA {
      const auto first = load_values<BFloat16Fours>(values + 2 * i * pitch),
                 second = load_values<BFloat16Fours>(values + (2 * i + 1) * pitch);
      const BFloat16Fours v = shuffle<kFour, kFour + 2>(first, second);
      each<4>([&](auto j) ZDCE_INLINE_LAMBDA { multiply_add(sums[i][j], v, w[j]); });
    });
  }

  // to: (8 pixels, 8 of 16 outputs).
  ZDCE_INLINE void store(float* to) const {
    each<4>([&](auto i) ZDCE_INLINE_LAMBDA {
      each<2>([&](auto j) ZDCE_INLINE_LAMBDA {
        const Register left = sums[i][2 * j], right = sums[i][2 * j + 1];
        store_register(to + 2 * i * kBlock + 4 * j, shuffle<0, 1, 4, 5>(left, right));
        store_register(to + (2 * i + 1) * kBlock + 4 * j, shuffle<2, 3, 6, 7>(left, right));
      });
    });
  }
};

// Sums of block o, of row r, 8 pixels from column x on and 8 outputs from j on. to: (8 pixels, 8 of 16 outputs).
__attribute__((noinline)) inline void multiply_tile(const Band<BFloat16>& band, int x, int o, int r, int j, float* to) {
  const Layer& layer = *band.layer;
  const BFloat16* weights = layer.matrices + static_cast<int64_t>(o) * layer.matrices_a_block() * kMatrix + 2 * j;
  BfmmlaTile tile;
  for (int row = 0; layer.widths.empty() && row < 3; ++row) {
    tile.add(band.inputs[0][r + row] + (x - 1) * kColorValues, kColorValues, weights + row * kMatrix, 2 * kBlock);
  }
  for (size_t s = 0; s < layer.widths.size(); ++s) {
    const int64_t pitch = layer.widths[s] * kBlock;
    const int values = 3 * layer.widths[s] * kBlock;  // of three neighbouring pixels
    for (int at = 0; at < values; at += 2 * kBlock, weights += 3 * kMatrix) {
      for (int row = 0; row < 3; ++row) {
        const BFloat16* const from = band.inputs[s][r + row] + (x - 1) * pitch + at;
        tile.add(from, pitch, weights + row * kMatrix, std::min(2 * kBlock, values - at));
      }
    }
  }
  tile.store(to);
}

// Of 1x1 filters. values: (steps, 16 pixels, 32); weights: (steps, 16 pairs, 16 outputs, 2).
__attribute__((noinline)) inline void multiply_pointwise_tile(const BFloat16* values, const BFloat16* weights,
                                                              int inputs, float* to) {
  BfmmlaTile tile;
  for (int at = 0; at < inputs; at += 2 * kBlock, weights += kMatrix, values += kMatrix) {
    tile.add(values, 2 * kBlock, weights, std::min(2 * kBlock, inputs - at));
  }
  tile.store(to);
}

// Four of 4 x 16 pixels of block o from column x on, of whose sums the bias is missing. from: (4, 16 pixels, 16).
// Rounded to the nearest, halves to even.
__attribute__((noinline)) inline void store_rectified(const Band<BFloat16>& band, int x, int o, const float* from,
                                                      int four) {
  from += four * 4 * kBlock;
  const float* const bias = band.layer->bias + o * kBlock;
  for (int p = 0; p < 4; ++p) {
    for (int lane = 0; lane < kBlock; lane += 8, from += 8) {
      const Register first = rectified(load_register(from) + load_register(bias + lane)),
                     second = rectified(load_register(from + 4) + load_register(bias + lane + 4));
      Halves8 rounded;
      asm("bfcvtn %0.4h, %1.4s\n\tbfcvtn2 %0.8h, %2.4s" : "=&w"(rounded) : "w"(first), "w"(second));
      for (const Copy& copy : *band.copies) {
        BFloat16* const to = copy.rows[four / 4] + static_cast<int64_t>(x + four % 4 * 4 + p) * copy.pitch + o * kBlock;
        std::memcpy(to + lane, &rounded, sizeof(rounded));
      }
    }
  }
}

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// tanh by a fraction, times a strength.
class FractionTangent {
 public:
  explicit FractionTangent(float strength) : strength_(strength) {}

  // In place. maps: (3, 16 pixels). Three maps of a pixel share a division, as its neighbours depend on the tile.
  ZDCE_INLINE void run(float* maps) const {
    for (int p = 0; p < kBlock; p += kRegisterLanes) activate(maps + p, kBlock, strength_);
  }

 private:
  float strength_;
};

struct BfmmlaUnit {
  using Activation = FractionTangent;

  // Products share their units with all other arithmetic: nothing is done between them.
  static int pauses(const Layer&) { return 1; }

  // Sums of block o, of 4 x 16 pixels from column x on. to: (4, 16, 16).
  template <class Between>
  ZDCE_INLINE static void multiply(const Band<BFloat16>& band, int x, int o, float* to, const Between&) {
    for (int r = 0; r < kBandRows; ++r) {
      for (int p = 0; p < kBlock; p += BfmmlaTile::kPixels) {
        for (int j = 0; j < kBlock; j += BfmmlaTile::kOutputs) {
          multiply_tile(band, x + p, o, r, j, to + (r * kBlock + p) * kBlock + j);
        }
      }
    }
  }

  ZDCE_INLINE static void store(const Band<BFloat16>& band, int x, int o, const float* from, int four) {
    store_rectified(band, x, o, from, four);
  }

  // The bits of v as bfloat16 in the lower half of each lane; halves to even, and NaN stays NaN.
  ZDCE_INLINE static RegisterBits bfloat16_bits(Register v) {
    const auto bits = reinterpret_cast<RegisterBits>(v);
    return (v == v ? bits + (0x7fff + ((bits >> 16) & 1)) : bits | 0x400000u) >> 16;
  }

  // The first eight outputs of 16 pixels, of whose sums the bias is missing. from: (16, 16); to: (16, 16), of which 8
  // rows are wanted.
  ZDCE_INLINE static void transpose_first_eight(const float* from, const float* bias, float* to) {
    transpose(from, to, bias);
  }
};

using BFloat16Band = MatrixBand<BfmmlaUnit>;

// The 1x1 products of 16 pixels of separable layers.
struct BFloat16Products : PointwiseCoefficients {
  ZDCE_INLINE static void store(BFloat16* to, Register v) { store_feature(to, v); }

  ZDCE_INLINE static void multiply(const Band<float>& band) {
    const int inputs = band.layer->inputs;
    for (int o = 0; o < band.layer->blocks; ++o) {
      const BFloat16* const weights =
          band.layer->matrices + static_cast<int64_t>(o) * pointwise_steps(inputs / kBlock) * kMatrix;
      for (int p = 0; p < kBlock; p += BfmmlaTile::kPixels) {
        for (int j = 0; j < kBlock; j += BfmmlaTile::kOutputs) {
          multiply_pointwise_tile(place(band.coefficients, 0) + p * kPixel, weights + 2 * j, inputs,
                                  band.products + (o * kBlock + p) * kBlock + j);
        }
      }
    }
  }
};

#endif

}  // namespace zdce::ZDCE_TARGET
