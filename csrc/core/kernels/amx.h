// Convolutions in bfloat16 on the processor's matrix unit (Intel AMX): 16 pixels times 32 values times 16 outputs
// an instruction, sums in float32.
#pragma once

#include "matrix_band.h"

namespace zdce::ZDCE_TARGET {

#if ZDCE_HAS_AMX

// Instructions that older compilers don't know. tests/core/avx512_on_avx2.h does the same without them.
#ifndef ZDCE_MATRIX_LOAD
#define ZDCE_MATRIX_CONFIGURE(configuration) asm volatile("ldtilecfg %0" ::"m"(configuration))
#define ZDCE_MATRIX_RELEASE() asm volatile("tilerelease" ::)
#define ZDCE_MATRIX_LOAD(number, from, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #number::"r"(from), "r"(static_cast<int64_t>(stride)) : "memory")
#define ZDCE_MATRIX_STORE(number, to, stride) \
  asm volatile("tilestored %%tmm" #number ", (%0,%1,1)" ::"r"(to), "r"(static_cast<int64_t>(stride)) : "memory")
#define ZDCE_MATRIX_ZERO(number) asm volatile("tilezero %%tmm" #number::)
// sums += values * weights
#define ZDCE_MATRIX_MULTIPLY(sums, values, weights) \
  asm volatile("tdpbf16ps %%tmm" #weights ", %%tmm" #values ", %%tmm" #sums::)
#define ZDCE_ROUND_HALVES(halves, values) asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(values))
// Values of `table` at the places in the lowest four bits of each lane of `places`.
#define ZDCE_LOOK_UP(values, places, table) asm("vpermps %2, %1, %0" : "=v"(values) : "v"(places), "m"(table))
#endif

// All eight registers as full matrices, for the thread that holds this.
class MatrixUnit {
 public:
  MatrixUnit() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    ZDCE_MATRIX_CONFIGURE(configuration);
  }
  ~MatrixUnit() { ZDCE_MATRIX_RELEASE(); }
  MatrixUnit(const MatrixUnit&) = delete;
  MatrixUnit& operator=(const MatrixUnit&) = delete;
};

typedef int16_t Halves __attribute__((vector_size(32)));

// Rounded to the nearest bfloat16, halves to even; NaN stays NaN, subnormals become 0.
ZDCE_INLINE Halves rounded_halves(Register v) {
  Halves rounded;
  ZDCE_ROUND_HALVES(rounded, v);
  return rounded;
}

// tanh by a table, times a strength, within 1 of 0. Beside products only one of the two units for multiplication and
// addition is free, but shuffles are: a table takes 8 instructions of the former, where the fraction of float32
// takes 20.
class TableTangent {
 public:
  explicit TableTangent(float strength) : sign_(strength < 0 ? kSign : 0) {
    const TangentTable& table = tangent_table();
    for (int n = 0; n < 4; ++n) {
      for (int i = 0; i < kTangentPieces; ++i) coefficients_[n][i] = table.at[n][i] * std::abs(strength);
    }
  }

  // In place. maps: (3, 16 pixels).
  ZDCE_INLINE void run(float* maps) const {
    for (int k = 0; k < 3; ++k) store_register(maps + k * kBlock, of(load_register(maps + k * kBlock)));
  }

 private:
  static constexpr uint32_t kSign = 0x80000000u;

  const uint32_t sign_;
  alignas(64) float coefficients_[4][kTangentPieces];

  ZDCE_INLINE Register of(Register x) const {
    const auto sign = reinterpret_cast<RegisterBits>(x) & kSign;
    const Register most = Register{} + kTangentEnd;
    Register distance = reinterpret_cast<Register>(reinterpret_cast<RegisterBits>(x) ^ sign);
    distance = most < distance ? most : distance;  // NaN stays
    // Next to this number floats are integers: the sum's lowest four bits are the piece.
    constexpr float integers = 0x1.8p23f;
    const Register piece = distance * (1 / kTangentPiece) + integers;
    const Register rest = distance - (piece - integers) * kTangentPiece;
    Register sum = coefficient(3, piece);
    for (int n = 2; n >= 0; --n) sum = sum * rest + coefficient(n, piece);
    sum = smaller(Register{} + 1.0f, sum);  // NaN stays
    return reinterpret_cast<Register>(reinterpret_cast<RegisterBits>(sum) ^ sign ^ sign_);
  }

  ZDCE_INLINE Register coefficient(int n, Register piece) const {
    static_assert(kTangentPieces == kRegisterLanes);
    Register picked;
    ZDCE_LOOK_UP(picked, piece, coefficients_[n]);
    return picked;
  }
};

struct AmxUnit {
  using Activation = TableTangent;

  // Parts of a block's products between which `between` is called.
  static int pauses(const Layer& layer) { return 4 * layer.matrices_a_block(); }

  // Sums of block o, of 4 x 16 pixels from column x on, from `bias` (16,) on, or from 0 on where it is null, which
  // saves loads. to: (4, 16, 16). The matrix unit takes 16 cycles for a product, in which other units can do what
  // `between` does, a little after each: only some eight of these instructions wait at a time, so what came after more
  // of them would not begin before they end.
  template <class Between>
  ZDCE_INLINE static void multiply(const Band<BFloat16>& band, int x, int o, float* to, const Between& between,
                                   const float* bias = nullptr) {
    const Layer& layer = *band.layer;
    const BFloat16* weights = layer.matrices + static_cast<int64_t>(o) * layer.matrices_a_block() * kMatrix;
    if (bias == nullptr) {
      ZDCE_MATRIX_ZERO(0);
      ZDCE_MATRIX_ZERO(1);
      ZDCE_MATRIX_ZERO(2);
      ZDCE_MATRIX_ZERO(3);
    } else {
      ZDCE_MATRIX_LOAD(0, bias, 0);
      ZDCE_MATRIX_LOAD(1, bias, 0);
      ZDCE_MATRIX_LOAD(2, bias, 0);
      ZDCE_MATRIX_LOAD(3, bias, 0);
    }
    if (layer.widths.empty()) {
      multiply_rows(band.inputs[0], (x - 1) * int64_t{kColorValues}, 2 * kColorValues, weights, between);
    }
    for (size_t s = 0; s < layer.widths.size(); ++s) {
      const int64_t pixel = layer.widths[s] * kBlock;
      int64_t at = (x - 1) * pixel;
      for (int step = 0; step < row_steps(layer.widths[s]); ++step, at += 2 * kBlock, weights += 3 * kMatrix) {
        multiply_rows(band.inputs[s], at, 2 * pixel, weights, between);
      }
    }
    constexpr int row = kBlock * kBlock;
    ZDCE_MATRIX_STORE(0, to, 64);
    ZDCE_MATRIX_STORE(1, to + row, 64);
    ZDCE_MATRIX_STORE(2, to + 2 * row, 64);
    ZDCE_MATRIX_STORE(3, to + 3 * row, 64);
  }

  // Values `at` to at + 31, and those of the 15 pixels behind, `pixel` bytes apart, of six rows times the weights of
  // three: all four rows of outputs share the loads. In this order two products at least pass before one adds to the
  // same sums again, which takes the unit as long as three, and the first rows are complete early, so that they are
  // stored while the last ones are still added to.
  template <class Between>
  ZDCE_INLINE static void multiply_rows(const BFloat16* const (&rows)[6], int64_t at, int64_t pixel,
                                        const BFloat16* weights, const Between& between) {
    ZDCE_MATRIX_LOAD(5, weights, 64);
    ZDCE_MATRIX_LOAD(6, weights + kMatrix, 64);
    ZDCE_MATRIX_LOAD(7, weights + 2 * kMatrix, 64);
    ZDCE_MATRIX_LOAD(4, rows[1] + at, pixel);
    ZDCE_MATRIX_MULTIPLY(0, 4, 6);
    between();
    ZDCE_MATRIX_MULTIPLY(1, 4, 5);
    between();
    ZDCE_MATRIX_LOAD(4, rows[2] + at, pixel);
    ZDCE_MATRIX_MULTIPLY(2, 4, 5);
    between();
    ZDCE_MATRIX_MULTIPLY(0, 4, 7);
    between();
    ZDCE_MATRIX_MULTIPLY(1, 4, 6);
    between();
    ZDCE_MATRIX_LOAD(4, rows[0] + at, pixel);
    ZDCE_MATRIX_MULTIPLY(0, 4, 5);
    between();
    ZDCE_MATRIX_LOAD(4, rows[3] + at, pixel);
    ZDCE_MATRIX_MULTIPLY(2, 4, 6);
    between();
    ZDCE_MATRIX_MULTIPLY(1, 4, 7);
    between();
    ZDCE_MATRIX_MULTIPLY(3, 4, 5);
    between();
    ZDCE_MATRIX_LOAD(4, rows[4] + at, pixel);
    ZDCE_MATRIX_MULTIPLY(2, 4, 7);
    between();
    ZDCE_MATRIX_MULTIPLY(3, 4, 6);
    between();
    ZDCE_MATRIX_LOAD(4, rows[5] + at, pixel);
    ZDCE_MATRIX_MULTIPLY(3, 4, 7);
    between();
  }

  // Four of 4 x 16 pixels, of whose sums the bias is missing. from: (4, 16 pixels, 16).
  ZDCE_INLINE static void store(const Band<BFloat16>& band, int x, int o, const float* from, int four) {
    const Register bias = load_register(band.layer->bias + o * kBlock);
    Halves rounded[4];
    for (int p = 0; p < 4; ++p) {
      rounded[p] = rounded_halves(rectified(load_register(from + (four * 4 + p) * kBlock) + bias));
    }
    for (const Copy& copy : *band.copies) {
      BFloat16* to = copy.rows[four / 4] + static_cast<int64_t>(x + four % 4 * 4) * copy.pitch + o * kBlock;
      for (int p = 0; p < 4; ++p) std::memcpy(to + p * copy.pitch, &rounded[p], sizeof(rounded[p]));
    }
  }

  // The bits of v as bfloat16 in the lower half of each lane.
  ZDCE_INLINE static RegisterBits bfloat16_bits(Register v) {
    typedef uint16_t Bits __attribute__((vector_size(32)));
    return __builtin_convertvector(reinterpret_cast<Bits>(rounded_halves(v)), RegisterBits);
  }

  // The first eight outputs of 16 pixels, of whose sums the bias is missing. from: (16, 16); to: (8, 16).
  ZDCE_INLINE static void transpose_first_eight(const float* from, const float* bias, float* to) {
    Register v[8];
    const Register first = load_register(bias),
                   both = shuffle<0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7>(first, first);
    for (int p = 0; p < 8; ++p) {
      v[p] = shuffle<0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23>(load_register(from + p * kBlock),
                                                                             load_register(from + (p + 8) * kBlock)) +
             both;
    }
    transpose_eight(v, to);
  }
};

using BFloat16Band = MatrixBand<AmxUnit>;

// The 1x1 products of 16 pixels of separable layers.
struct BFloat16Products : PointwiseCoefficients {
  ZDCE_INLINE static void store(BFloat16* to, Register v) {
    const Halves rounded = rounded_halves(v);
    std::memcpy(to, &rounded, sizeof(rounded));
  }

  ZDCE_INLINE static void multiply(const Band<float>& band) {
    const int inputs = band.layer->inputs / kBlock, outputs = band.layer->blocks;
    // The last step's second block has no weights, but 0 times what is no number would be none.
    for (int p = 0; inputs % 2 == 1 && p < kBlock; ++p) {
      std::fill_n(place(band.coefficients, inputs) + p * kPixel, kBlock, BFloat16{});
    }
    for (int o = 0; o < outputs; o += 2) {
      if (o + 1 < outputs) {
        multiply<2>(band, pointwise_steps(inputs), o);
      } else {
        multiply<1>(band, pointwise_steps(inputs), o);
      }
    }
  }

  template <int kOutputs>
  ZDCE_INLINE static void multiply(const Band<float>& band, int steps, int o) {
    const BFloat16* weights = band.layer->matrices + static_cast<int64_t>(o) * steps * kMatrix;
    const BFloat16* values = place(band.coefficients, 0);
    ZDCE_MATRIX_ZERO(0);
    ZDCE_MATRIX_ZERO(1);
    for (int step = 0; step < steps; ++step, weights += kMatrix, values += kMatrix) {
      ZDCE_MATRIX_LOAD(4, values, 64);
      ZDCE_MATRIX_LOAD(6, weights, 64);
      ZDCE_MATRIX_MULTIPLY(0, 4, 6);
      if constexpr (kOutputs > 1) {
        ZDCE_MATRIX_LOAD(7, weights + static_cast<int64_t>(steps) * kMatrix, 64);
        ZDCE_MATRIX_MULTIPLY(1, 4, 7);
      }
    }
    float* const to = band.products + o * kBlock * kBlock;
    ZDCE_MATRIX_STORE(0, to, 64);
    if constexpr (kOutputs > 1) ZDCE_MATRIX_STORE(1, to + kBlock * kBlock, 64);
  }
};

#endif

}  // namespace zdce::ZDCE_TARGET
