// Four rows of one layer in bfloat16, by a unit that multiplies matrices: Intel's AMX (amx.h), Arm's BF16 (bfmmla.h).
#pragma once

#include "bands.h"

namespace zdce::ZDCE_TARGET {

// 4 rows x 16 pixels x 16 outputs at a time. Unit::multiply gives their logits, of one block of outputs from column x
// on, as (4, 16 pixels, 16); Unit::store rounds and rectifies (4, 16 pixels, 16) of them into feature maps.
template <class Unit>
struct MatrixBand {
  ZDCE_INLINE static void run(const Band<Brain>* band, const Finish* finish) {
    if (finish == nullptr) {
      hidden(*band);
    } else {
      last(*band, *finish);
    }
  }

  // A block's weights stay in the first-level cache for the whole row.
  ZDCE_INLINE static void hidden(const Band<Brain>& band) {
    for (int o = 0; o < band.layer->blocks; ++o) {
      for (int x = band.left; x < band.right; x += kBlock) {
        Unit::multiply(band, x, o, band.products);
        Unit::store(band, x, o, band.products);
      }
    }
  }

  ZDCE_INLINE static void last(const Band<Brain>& band, const Finish& finish) {
    constexpr int row = kBlock * kBlock;
    for (int x = band.left; x < band.right; x += kBlock) {
      for (int o = 0; o < band.layer->blocks; ++o) Unit::multiply(band, x, o, band.products + o * kBandRows * row);
      for (int r = 0; r < kBandRows; ++r) finish_pixels<1>(band.products + r * row, *band.layer, r, x, finish);
    }
  }
};

// Where the inputs of separable layers' 1x1 products lie: (steps, 16 pixels, two blocks of 16).
struct PointwiseCoefficients {
  static constexpr int kPixel = 2 * kBlock;

  ZDCE_INLINE static Brain* place(float* coefficients, int block) {
    return reinterpret_cast<Brain*>(coefficients) + block / 2 * kMatrix + block % 2 * kBlock;
  }
};

}  // namespace zdce::ZDCE_TARGET
