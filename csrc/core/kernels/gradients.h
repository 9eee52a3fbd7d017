// One layer of a network that is trained: its convolution into tensors of any layout, and its weights' gradient.
#pragma once

#include "bands.h"
#include "rows.h"

namespace zdce::ZDCE_TARGET {

// From a channel of planar outputs to the next: 4 rows, and as much more that 16 channels don't share a set of the
// first-level cache.
constexpr int kPlanePitch = kBandRows * kRegionColumns + kBlock;

// Where some of a layer's output blocks go, four rows of a region.
struct Output {
  int first, blocks;  // blocks of the layer
  bool half;          // and the half one behind them
  int channels, columns;
  bool bfloat16;           // else float32
  char* rows[kBandRows];   // at the region's first column and the first channel; null below the picture
  int64_t pixel, channel;  // strides in elements
  bool rectified;
  float* planes;  // scratch, each channel's (4, kRegionColumns), used where channels are not neighbours
};

// Rows y to y + 3 of a tile of the tensor that a layer's blocks go to from block `first` on, the last of them a half
// one or not.
inline Output output_of(const Planes& t, const Tile& tile, int64_t y, int first, bool half, bool rectified,
                        float* planes) {
  Output to{};
  to.first = first, to.blocks = blocks_of(static_cast<int>(t.channels)) - half, to.half = half;
  to.channels = static_cast<int>(t.channels), to.columns = tile.n;
  to.bfloat16 = t.element == Element::kBFloat16;
  for (int r = 0; r < kBandRows && y + r < t.height; ++r) to.rows[r] = address(t, tile.b, 0, y + r, tile.x);
  const int64_t bytes = bytes_of(t.element);
  to.pixel = t.pixel_stride / bytes, to.channel = t.channel_stride / bytes;
  to.rectified = rectified, to.planes = planes;
  return to;
}

// Outputs of layers that don't end in pixels of a picture.
struct ConvolutionBand {
  ZDCE_INLINE static void run(const Band<float>* band, const Output* outputs, int count) {
    const auto use = [&](int x, const float* products) ZDCE_INLINE_LAMBDA {
      for (int i = 0; i < count; ++i) {
        const int column = x - band->left;
        const float* const own = products + outputs[i].first * kStripProducts;
        if (outputs[i].channel != 1) {
          planar(*band, outputs[i], column, own);
        } else if (outputs[i].bfloat16) {
          interleaved<BFloat16>(*band, outputs[i], column, own);
        } else {
          interleaved<float>(*band, outputs[i], column, own);
        }
      }
    };
    WinogradBand::each_tile(*band, use);
    for (int i = 0; i < count; ++i) {
      if (outputs[i].channel != 1) put_planes(outputs[i]);
    }
  }

  ZDCE_INLINE static void put_planes(const Output& to) {
    if (to.bfloat16) {
      put_planes<BFloat16>(to);
    } else {
      put_planes<float>(to);
    }
  }

  // NaN stays NaN, so that training sees it.
  ZDCE_INLINE static Register at_least(Register v, float least) { return larger(least - Register{}, v); }

  ZDCE_INLINE static float least(const Output& to) {
    return to.rectified ? 0.0f : -std::numeric_limits<float>::infinity();
  }

  // Rounding a NaN's bits could carry into its sign: all become the one that stays a NaN.
  template <class F>
  ZDCE_INLINE static void put_feature(F* to, Register v) {
    if constexpr (sizeof(F) == sizeof(float)) {
      store_register(to, v);
    } else {
      const Register nan = std::numeric_limits<float>::quiet_NaN() - Register{};
      store_feature(to, v == v ? v : nan);
    }
  }

  template <class F>
  ZDCE_INLINE static void interleaved(const Band<float>& band, const Output& to, int column, const float* products) {
    const float low = least(to);
    for (int o = 0; o < to.blocks; ++o) {
      const int channels = std::min(kBlock, to.channels - o * kBlock);
      const float* const bias = band.layer->bias + (to.first + o) * kBlock;
      const bool whole = channels == kBlock && column + 4 <= to.columns && to.rows[kBandRows - 1] != nullptr;
      F* const pixels = reinterpret_cast<F*>(band.pixels);
      const auto put = [&](int r, int x, int part, Register v) ZDCE_INLINE_LAMBDA {
        F* const at = whole ? row<F>(to, r) + (column + x) * to.pixel + o * kBlock : pixels + (4 * r + x) * kBlock;
        put_feature(at + part * kRegisterLanes, at_least(v, low));
      };
      output_tile(products + o * kStripProducts, bias, put);
      if (whole) continue;
      for (int r = 0; r < kBandRows && to.rows[r] != nullptr; ++r) {
        for (int x = 0; x < std::min(4, to.columns - column); ++x) {
          std::memcpy(row<F>(to, r) + (column + x) * to.pixel + o * kBlock, pixels + (4 * r + x) * kBlock,
                      sizeof(F) * channels);
        }
      }
    }
  }

  ZDCE_INLINE static void planar(const Band<float>& band, const Output& to, int column, const float* products) {
    constexpr int block = kBlock * kBlock;
    float *const pixels = band.pixels, *const planes = pixels + (to.blocks + to.half) * block;
    for (int o = 0; o < to.blocks + to.half; ++o) {
      const auto put = [&](int r, int x, int part, Register v) ZDCE_INLINE_LAMBDA {
        store_register(pixels + o * block + (4 * r + x) * kBlock + part * kRegisterLanes, v);
      };
      output_tile(products + o * kStripProducts, band.layer->bias + (to.first + o) * kBlock, put);
    }
    to_planes(pixels, block, to.blocks, to.half, planes);
    const float low = least(to);
    for (int k = 0; k < to.channels; ++k) {
      for (int part = 0; part < kBlock; part += kRegisterLanes) {
        store_register(planes + k * kBlock + part, at_least(load_register(planes + k * kBlock + part), low));
      }
      for (int r = 0; r < kBandRows; ++r) {
        std::memcpy(to.planes + k * kPlanePitch + r * kRegionColumns + column, planes + k * kBlock + 4 * r, 16);
      }
    }
  }

  template <class F>
  ZDCE_INLINE static F* row(const Output& to, int r) {
    return reinterpret_cast<F*>(to.rows[r]);
  }

  template <class F>
  ZDCE_INLINE static void put_planes(const Output& to) {
    for (int k = 0; k < to.channels; ++k) {
      for (int r = 0; r < kBandRows && to.rows[r] != nullptr; ++r) {
        const float* const from = to.planes + k * kPlanePitch + r * kRegionColumns;
        F* const plane = row<F>(to, r) + k * to.channel;
        if constexpr (sizeof(F) == sizeof(float)) {
          if (to.pixel == 1) {
            std::memcpy(plane, from, 4 * to.columns);
          } else {
            for (int x = 0; x < to.columns; ++x) plane[x * to.pixel] = from[x];
          }
        } else {
          for (int x = 0; x < to.columns; ++x) plane[x * to.pixel] = Narrow<F>::from(from[x]);
        }
      }
    }
  }
};

// The weights' gradient by the same transforms turned around: F(3x3, 4x4). What a point multiplies in forward it
// multiplies here, B^T d B with A g A^T, summed over the tiles; G^T u G of the sums are the nine taps.

// A g, two of the six coefficients of the gradients g at a time, in the pairs of transform_input.
template <int kPair, class V>
ZDCE_INLINE void transform_gradient(const V (&g)[4], V& first, V& second) {
  if constexpr (kPair == 0) {
    first = g[0], second = g[3];
  } else {
    constexpr float own = kPair == 1 ? kA : kB, own2 = own * own, own3 = own2 * own;
    const V even = g[0] + own2 * g[2], odd = own * g[1] + own3 * g[3];
    first = even + odd;
    second = even - odd;
  }
}

// Tiles a group: values and gradients of a third of the points, 12 KB a block each, stay near the core, and sums are
// fetched and put back once for 16 multiplications.
constexpr int kGroup = 16;

struct GradientBand {
  const float* const (*inputs)[6];     // rows y - 1 to y + 4 of each block of input channels
  const float* const (*gradients)[6];  // of each block of output channels, whose rows y to y + 3 count
  int input_blocks, outputs;           // outputs: channels
  int left, right;                     // columns; their difference is a multiple of 4
  float *values, *slopes;              // scratch (input blocks, 12, kGroup, 16) and (output blocks, 12, kGroup, 16)
  float* sums;                         // (36, output blocks * 16, input blocks * 16), added to
  float* bias;                         // (output blocks * 16), added to
};

// As many outputs as leave a register for the values and one for the slope.
constexpr int kGradientOutputs = ZDCE_GRADIENT_OUTPUTS;

struct SumGradients {
  ZDCE_INLINE static void run(const GradientBand* band) {
    for (int x = band->left; x < band->right; x += 4 * kGroup) {
      const int tiles = std::min(kGroup, (band->right - x) / 4);
      add_pair<0>(*band, x, tiles);
      add_pair<1>(*band, x, tiles);
      add_pair<2>(*band, x, tiles);
    }
    for (int o = 0; o < blocks_of(band->outputs); ++o) add_bias(*band, o);
  }

  template <int kPair>
  ZDCE_INLINE static void add_pair(const GradientBand& band, int x, int tiles) {
    constexpr int point = kGroup * kBlock, third = 12 * point;
    const int output_blocks = blocks_of(band.outputs);
    for (int lane = 0; lane < kBlock; lane += kRegisterLanes) {
      for (int i = 0; i < band.input_blocks; ++i) {
        const float* rows[6];
        for (int r = 0; r < 6; ++r) rows[r] = band.inputs[i][r] + static_cast<int64_t>(x - 1) * kBlock + lane;
        input_pair<kPair, kGroup>(rows, tiles, band.values + i * third + lane);
      }
      for (int o = 0; o < output_blocks; ++o) {
        const float* rows[4];
        for (int r = 0; r < 4; ++r) rows[r] = band.gradients[o][r + 1] + static_cast<int64_t>(x) * kBlock + lane;
        gradient_pair<kPair>(rows, tiles, band.slopes + o * third + lane);
      }
    }
    const int row = band.input_blocks * kBlock;
    for (int k = 0; k < 12; ++k) {
      const int at = k < 6 ? 6 * kFirst[kPair] + k : 6 * kSecond[kPair] + k - 6;
      for (int i = 0; i < band.input_blocks; ++i) {
        for (int o = 0; o < band.outputs; o += kGradientOutputs) {
          const float* const values = band.values + i * third + k * point;
          const float* const slopes = band.slopes + o / kBlock * third + k * point + o % kBlock;
          float* const sums = band.sums + (static_cast<int64_t>(at) * output_blocks * kBlock + o) * row + i * kBlock;
          if (band.outputs - o > kGradientOutputs / 2) {
            add_products<kGradientOutputs>(values, slopes, tiles, sums, row);
          } else {
            add_products<kGradientOutputs / 2>(values, slopes, tiles, sums, row);
          }
        }
      }
    }
  }

  // Rows kFirst[kPair] and kSecond[kPair] of A g A^T. rows: four, at the first tile's first column; to: (12, kGroup,
  // 16).
  template <int kPair>
  ZDCE_INLINE static void gradient_pair(const float* const (&rows)[4], int tiles, float* to) {
    constexpr int point = kGroup * kBlock;
    const auto across = [&](const Register(&g)[4], float* at) ZDCE_INLINE_LAMBDA {
      Register d[6];
      transform_gradient<0>(g, d[kFirst[0]], d[kSecond[0]]);
      transform_gradient<1>(g, d[kFirst[1]], d[kSecond[1]]);
      transform_gradient<2>(g, d[kFirst[2]], d[kSecond[2]]);
      for (int x = 0; x < 6; ++x) store_register(at + x * point, d[x]);
    };
    for (int64_t t = 0; t < tiles; ++t) {
      Register first[4], second[4];
      for (int x = 0; x < 4; ++x) {
        Register g[4];
        for (int r = 0; r < 4; ++r) g[r] = load_register(rows[r] + (4 * t + x) * kBlock);
        transform_gradient<kPair>(g, first[x], second[x]);
      }
      across(first, to + t * kBlock);
      across(second, to + 6 * point + t * kBlock);
    }
  }

  // sums[o] += slopes[t][o] * values[t], summed over the tiles, of which there is one at least. values, slopes:
  // (kGroup, 16); kCount rows of sums, `row` floats apart.
  template <int kCount>
  ZDCE_INLINE static void add_products(const float* values, const float* slopes, int tiles, float* sums, int row) {
    Register total[kCount][kBlockRegisters];
    const auto add = [&](auto first) ZDCE_INLINE_LAMBDA {
      Register v[kBlockRegisters];
      for (int p = 0; p < kBlockRegisters; ++p) v[p] = load_register(values + p * kRegisterLanes);
      ZDCE_UNROLL(16)
      for (int o = 0; o < kCount; ++o) {
        for (int p = 0; p < kBlockRegisters; ++p) {
          if constexpr (first) {
            total[o][p] = v[p] * slopes[o];
          } else {
            total[o][p] += v[p] * slopes[o];
          }
        }
      }
      values += kBlock, slopes += kBlock;
    };
    add(std::true_type());  // the first products begin the sums, as in multiply
    for (int t = 1; t < tiles; ++t) add(std::false_type());
    ZDCE_UNROLL(16)
    for (int o = 0; o < kCount; ++o) {
      for (int p = 0; p < kBlockRegisters; ++p) {
        float* const to = sums + o * row + p * kRegisterLanes;
        store_register(to, load_register(to) + total[o][p]);
      }
    }
  }

  ZDCE_INLINE static void add_bias(const GradientBand& band, int block) {
    for (int lane = 0; lane < kBlock; lane += kRegisterLanes) {
      Register total[kBandRows] = {};
      for (int64_t x = band.left; x < band.right; ++x) {
        for (int r = 0; r < kBandRows; ++r) total[r] += load_register(band.gradients[block][r + 1] + x * kBlock + lane);
      }
      float* const to = band.bias + block * kBlock + lane;
      store_register(to, load_register(to) + ((total[0] + total[1]) + (total[2] + total[3])));
    }
  }
};

}  // namespace zdce::ZDCE_TARGET
