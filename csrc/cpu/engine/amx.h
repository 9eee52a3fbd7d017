// Convolutions in bfloat16 on the processor's matrix unit (Intel AMX): 16 pixels times 32 values times 16 outputs
// an instruction, sums in float32.
#pragma once

#include "bands.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace zdce::engine {

#if defined(__x86_64__) && defined(__linux__)

// Whether the processor has the unit and the kernel lets this process use it; asked once.
inline bool has_amx() {
  static const bool usable = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
    if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return usable;
}

// All eight registers as full matrices, for the thread that holds this.
class MatrixUnit {
 public:
  MatrixUnit() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    asm volatile("ldtilecfg %0" ::"m"(configuration));
  }
  ~MatrixUnit() { asm volatile("tilerelease" ::); }
  MatrixUnit(const MatrixUnit&) = delete;
  MatrixUnit& operator=(const MatrixUnit&) = delete;
};

// AVX-512 does what surrounds the products.
inline bool can_run_bfloat16() { return has_amx() && isa() == Isa::kAvx512; }

#define ZDCE_MATRIX_LOAD(number, from, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #number::"r"(from), "r"(static_cast<int64_t>(stride)) : "memory")
#define ZDCE_MATRIX_STORE(number, to, stride) \
  asm volatile("tilestored %%tmm" #number ", (%0,%1,1)" ::"r"(to), "r"(static_cast<int64_t>(stride)) : "memory")
#define ZDCE_MATRIX_ZERO(number) asm volatile("tilezero %%tmm" #number::)
// sums += values * weights
#define ZDCE_MATRIX_MULTIPLY(sums, values, weights) \
  asm volatile("tdpbf16ps %%tmm" #weights ", %%tmm" #values ", %%tmm" #sums::)

struct AmxBand {
  ZDCE_INLINE static void run(const Band<Brain>* band, const Finish* finish) {
    for (int r = 0; r < kRows; ++r) {
      for (int x = band->left; x < band->right; x += 4 * kBlock) {
        const int groups = std::min(4, (band->right - x + kBlock - 1) / kBlock);
        for (int o = 0; o < band->layer->blocks; ++o) {
          switch (groups) {
            case 1:
              multiply<1>(*band, r, x, o);
              break;
            case 2:
              multiply<2>(*band, r, x, o);
              break;
            case 3:
              multiply<3>(*band, r, x, o);
              break;
            default:
              multiply<4>(*band, r, x, o);
          }
          add_bias(*band, r, x, groups * kBlock, o, finish != nullptr);
        }
        for (int g = 0; finish != nullptr && g < groups; ++g) {
          finish_pixels<64, 1>(band->products + g * kBlock * band->layer->lanes(), *band->layer, r, x + g * kBlock,
                               *finish);
        }
      }
    }
  }

  // One block of outputs of up to four groups of 16 pixels, which share each matrix of weights.
  template <int kGroups>
  ZDCE_INLINE static void multiply(const Band<Brain>& band, int r, int x, int o) {
    const int inputs = band.layer->inputs / kBlock, stride = band.layer->lanes() * 4;
    constexpr int kPixel = kBlock * 2;
    const Brain* weights = band.layer->matrices + static_cast<int64_t>(o) * inputs * kSteps * kMatrix;
    ZDCE_MATRIX_ZERO(0);
    ZDCE_MATRIX_ZERO(1);
    ZDCE_MATRIX_ZERO(2);
    ZDCE_MATRIX_ZERO(3);
    for (int i = 0; i < inputs; ++i) {
      for (int step = 0; step < kSteps; ++step, weights += kMatrix) {
        const Brain* const values = band.inputs[i][r + step / 2] + static_cast<int64_t>(x - 1 + step % 2 * 2) * kBlock;
        ZDCE_MATRIX_LOAD(7, weights, 64);
        ZDCE_MATRIX_LOAD(4, values, kPixel);
        ZDCE_MATRIX_MULTIPLY(0, 4, 7);
        if constexpr (kGroups > 1) {
          ZDCE_MATRIX_LOAD(5, values + kBlock * kBlock, kPixel);
          ZDCE_MATRIX_MULTIPLY(1, 5, 7);
        }
        if constexpr (kGroups > 2) {
          ZDCE_MATRIX_LOAD(6, values + 2 * kBlock * kBlock, kPixel);
          ZDCE_MATRIX_MULTIPLY(2, 6, 7);
        }
        if constexpr (kGroups > 3) {
          ZDCE_MATRIX_LOAD(4, values + 3 * kBlock * kBlock, kPixel);
          ZDCE_MATRIX_MULTIPLY(3, 4, 7);
        }
      }
    }
    float* const to = band.products + o * kBlock;
    const int64_t group = static_cast<int64_t>(kBlock) * band.layer->lanes();
    ZDCE_MATRIX_STORE(0, to, stride);
    if constexpr (kGroups > 1) ZDCE_MATRIX_STORE(1, to + group, stride);
    if constexpr (kGroups > 2) ZDCE_MATRIX_STORE(2, to + 2 * group, stride);
    if constexpr (kGroups > 3) ZDCE_MATRIX_STORE(3, to + 3 * group, stride);
  }

  // products: (pixels, lanes). Hidden layers become feature maps.
  ZDCE_INLINE static void add_bias(const Band<Brain>& band, int r, int x, int pixels, int o, bool last) {
    const auto bias = load_part<64>(band.layer->bias + o * kBlock);
    const int lanes = band.layer->lanes();
    for (int p = 0; p < pixels; ++p) {
      float* const at = band.products + p * lanes + o * kBlock;
      const auto v = load_part<64>(at) + bias;
      if (last) {
        store_part<64>(at, v);
      } else {
        store_feature<64>(band.outputs[o][r] + static_cast<int64_t>(x + p) * kBlock, rectified<64>(v));
      }
    }
  }
};

// The 1x1 products of 16 pixels of separable layers. Coefficients: (steps, 16 pixels, two blocks of 16).
struct AmxProducts {
  static constexpr int kPixel = 2 * kBlock;

  ZDCE_INLINE static Brain* place(float* coefficients, int block) {
    return reinterpret_cast<Brain*>(coefficients) + block / 2 * kMatrix + block % 2 * kBlock;
  }

  ZDCE_INLINE static void multiply(const Band<float>& band) {
    const int inputs = band.layer->inputs / kBlock, outputs = band.layer->blocks;
    // The last step's second block has no weights, but 0 times what is no number would be none.
    for (int p = 0; inputs % 2 == 1 && p < kBlock; ++p) {
      std::fill_n(place(band.coefficients, inputs) + p * kPixel, kBlock, Brain{0});
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
    const Brain* weights = band.layer->matrices + static_cast<int64_t>(o) * steps * kMatrix;
    const Brain* values = place(band.coefficients, 0);
    const int stride = band.layer->lanes() * 4;
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
    float* const to = band.products + o * kBlock;
    ZDCE_MATRIX_STORE(0, to, stride);
    if constexpr (kOutputs > 1) ZDCE_MATRIX_STORE(1, to + kBlock, stride);
  }
};

#else

inline bool can_run_bfloat16() { return false; }
class MatrixUnit {};
using AmxProducts = FloatProducts<64, 14>;

struct AmxBand {
  static void run(const Band<Brain>*, const Finish*) {}
};

#endif

}  // namespace zdce::engine
