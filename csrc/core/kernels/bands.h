// Four rows of one layer, from rows of its inputs to rows of its feature maps or, in the last layer, to enhanced
// pixels.
#pragma once

#include "winograd.h"

namespace zdce::ZDCE_TARGET {

// Where a layer's outputs go in bfloat16: rows y to y + 3, and the values from a pixel to the next.
struct Copy {
  BFloat16* rows[kBandRows];
  int pitch;
};

// Columns of a layer, counted from the beginning of the rows' memory; left and right differ by a multiple of 4, and
// inputs are read from left - 1 to right.
struct Columns {
  const Layer* layer;
  int left, right;
};

// Where the rows of one layer's inputs and outputs lie.
template <class F>
struct Band;

template <>
struct Band<float> : Columns {
  // Rows y - 1 to y + 4 of the picture's colours, for the first layer.
  const float* const (*colors)[6];
  // Rows y - 1 to y + 4 of each block of input channels, for the others.
  const float* const (*inputs)[6];
  // Rows y to y + 3 of each block of output channels, which the last layer does not write.
  float* const (*outputs)[kBandRows];
  // (input blocks, 12, kStripTiles, 16), (output blocks, 36, kStripTiles, 16), (output blocks, 16 pixels, 16): scratch.
  float *coefficients, *products, *pixels;
};

template <>
struct Band<BFloat16> : Columns {
  // Rows y - 1 to y + 4 of each source's pixels, which are the picture's for the first layer.
  const BFloat16* const (*inputs)[6];
  const std::vector<Copy>* copies;  // none in the last layer
  float* products;                  // (2, output blocks, 4, 16, 16): scratch
};

// What becomes of the last layer's logits.
struct Finish {
  int maps, iterations;
  float strength;
  // Rows y to y + 3 of the picture's colours and of the result's; the result is the enhanced picture, or the curve maps
  // (row r of map k at results[k][r]).
  const float* colors[3][kBandRows];
  float* results[kMaxMaps][kBandRows];
  bool curve;
};

// Lanes 0, n, 1, n + 1, ... of a and b side by side: the first half of them, and the second.
template <bool kSecond, int... kLane>
ZDCE_INLINE Register interleave(Register a, Register b, std::integer_sequence<int, kLane...>) {
  constexpr int first = kSecond ? kRegisterLanes / 2 : 0;
  return shuffle<(first + kLane / 2 + kLane % 2 * kRegisterLanes)...>(a, b);
}

template <bool kSecond>
ZDCE_INLINE Register interleave(Register a, Register b) {
  return interleave<kSecond>(a, b, std::make_integer_sequence<int, kRegisterLanes>());
}

#if ZDCE_REGISTER_BYTES == 32
// Four values of a row (16,) in the first half, of the fourth row after it in the second.
ZDCE_INLINE Register load_halves(const float* row) {
  Floats4 v[2];
  std::memcpy(&v[0], row, sizeof(v[0])), std::memcpy(&v[1], row + 4 * kBlock, sizeof(v[1]));
  return shuffle<0, 1, 2, 3, 4, 5, 6, 7>(v[0], v[1]);
}

// Transposes the four by four values in each half of the registers. No shuffle crosses the halves: that would take
// three times as long.
ZDCE_INLINE void transpose_halves(Register (&v)[4]) {
  const Register low[2] = {shuffle<0, 8, 1, 9, 4, 12, 5, 13>(v[0], v[1]),
                           shuffle<0, 8, 1, 9, 4, 12, 5, 13>(v[2], v[3])};
  const Register high[2] = {shuffle<2, 10, 3, 11, 6, 14, 7, 15>(v[0], v[1]),
                            shuffle<2, 10, 3, 11, 6, 14, 7, 15>(v[2], v[3])};
  v[0] = shuffle<0, 1, 8, 9, 4, 5, 12, 13>(low[0], low[1]);
  v[1] = shuffle<2, 3, 10, 11, 6, 7, 14, 15>(low[0], low[1]);
  v[2] = shuffle<0, 1, 8, 9, 4, 5, 12, 13>(high[0], high[1]);
  v[3] = shuffle<2, 3, 10, 11, 6, 7, 14, 15>(high[0], high[1]);
}
#endif

// from, to: (16, 16). Adds the bias (16,), where there is one, to each row of `from`.
ZDCE_INLINE void transpose(const float* from, float* to, const float* bias = nullptr) {
  constexpr int n = kRegisterLanes;
  for (int row = 0; row < kBlock; row += n) {
#if ZDCE_REGISTER_BYTES == 32
    for (int lane = 0; lane < kBlock; lane += 4) {
      Register v[4];
      for (int i = 0; i < 4; ++i) v[i] = load_halves(from + (row + i) * kBlock + lane);
      transpose_halves(v);
      for (int i = 0; i < 4; ++i) {
        if (bias != nullptr) v[i] += bias[lane + i];
        store_register(to + (lane + i) * kBlock + row, v[i]);
      }
    }
#else
    for (int lane = 0; lane < kBlock; lane += n) {
      Register v[n], w[n];
      for (int i = 0; i < n; ++i) v[i] = load_register(from + (row + i) * kBlock + lane);
      for (int i = 0; bias != nullptr && i < n; ++i) v[i] += load_register(bias + lane);
      for (int stage = 1; stage < n; stage *= 2) {
        for (int i = 0; i < n / 2; ++i) {
          w[2 * i] = interleave<false>(v[i], v[i + n / 2]);
          w[2 * i + 1] = interleave<true>(v[i], v[i + n / 2]);
        }
        for (int i = 0; i < n; ++i) v[i] = w[i];
      }
      for (int i = 0; i < n; ++i) store_register(to + (lane + i) * kBlock + row, v[i]);
    }
#endif
  }
}

// Logits become scaled curve maps, three vectors `apart` floats from each other. One division serves them all: on
// AVX-512 it takes as long as 16 multiplications. Denominators are at most 512, so their product is far from float's
// limits.
ZDCE_INLINE void activate(float* maps, int apart, float strength) {
  Fraction<Register> y[3];
  for (int i = 0; i < 3; ++i) y[i] = tangent_fraction(within(load_register(maps + i * apart), kTangentLimit));
  const Register first_two = y[0].denominator * y[1].denominator;
  const Register inverse = strength / (first_two * y[2].denominator), of_two = inverse * y[2].denominator;
  store_register(maps, within(y[0].numerator * (of_two * y[1].denominator), 1.0f));
  store_register(maps + apart, within(y[1].numerator * (of_two * y[0].denominator), 1.0f));
  store_register(maps + 2 * apart, within(y[2].numerator * (inverse * first_two), 1.0f));
}

// Transposes 8 outputs of 16 pixels: v[p] has those of pixel p in its first half, of p + 8 in its second. to: (8, 16).
#if ZDCE_REGISTER_BYTES == 64
ZDCE_INLINE void transpose_eight(Register (&v)[8], float* to) {
  // Three times, lanes of registers i and i + 4 alternate within the halves, which transposes both.
  Register w[8];
  for (int stage = 0; stage < 3; ++stage) {
    for (int i = 0; i < 4; ++i) {
      w[2 * i] = shuffle<0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27>(v[i], v[i + 4]);
      w[2 * i + 1] = shuffle<4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31>(v[i], v[i + 4]);
    }
    for (int i = 0; i < 8; ++i) v[i] = w[i];
  }
  for (int i = 0; i < 8; ++i) store_register(to + i * kBlock, v[i]);
}
#endif

// The transpose of 8 outputs, each the sum of two neighbouring lanes. from: (16, 16); to: (8, 16).
ZDCE_INLINE void transpose_sums(const float* from, float* to) {
#if ZDCE_REGISTER_BYTES == 64
  Register v[8];
  for (int p = 0; p < 8; ++p) {
    const Register a = load_register(from + p * kBlock), b = load_register(from + (p + 8) * kBlock);
    v[p] = shuffle<0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30>(a, b) +
           shuffle<1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31>(a, b);
  }
  transpose_eight(v, to);
#elif ZDCE_REGISTER_BYTES == 32
  for (int half = 0; half < kBlock; half += 8) {
    // Outputs 0 to 3 and 4 to 7 of 8 pixels: of pixel i in the first half, of i + 4 in the second.
    Register v[2][4];
    for (int i = 0; i < 4; ++i) {
      for (int side = 0; side < 2; ++side) {
        const float* const at = from + (half + i) * kBlock + side * 8;
        const Register a = load_halves(at), b = load_halves(at + 4);
        v[side][i] = shuffle<0, 2, 8, 10, 4, 6, 12, 14>(a, b) + shuffle<1, 3, 9, 11, 5, 7, 13, 15>(a, b);
      }
    }
    for (int side = 0; side < 2; ++side) {
      transpose_halves(v[side]);
      for (int i = 0; i < 4; ++i) store_register(to + (4 * side + i) * kBlock + half, v[side][i]);
    }
  }
#else
  alignas(64) float lanes[kBlock * kBlock];
  transpose(from, lanes);
  for (int i = 0; i < 8; ++i) {
    for (int p = 0; p < kBlock; p += kRegisterLanes) {
      const Register even = load_register(lanes + 2 * i * kBlock + p),
                     odd = load_register(lanes + (2 * i + 1) * kBlock + p);
      store_register(to + i * kBlock + p, even + odd);
    }
  }
#endif
}

// Outputs of 16 pixels, planar. pixels: (16, 16) of each block and perhaps of a half one, `apart` floats apart; planes:
// (16 * blocks and perhaps 8, 16).
ZDCE_INLINE void to_planes(const float* pixels, int apart, int blocks, bool half, float* planes) {
  for (int o = 0; o < blocks; ++o) transpose(pixels + o * apart, planes + o * kBlock * kBlock);
  if (half) transpose_sums(pixels + blocks * apart, planes + blocks * kBlock * kBlock);
}

// Pixels p to p + kRegisterLanes of sixteen that lie in kHigh rows from column x on.
template <int kHigh>
ZDCE_INLINE Register load_pixels_of(const float* const* rows, int x, int p) {
  constexpr int wide = kBlock / kHigh;
  if constexpr (wide >= kRegisterLanes) {
    return load_register(rows[p / wide] + x + p % wide);
  } else {
    static_assert(wide == 4);
    Floats4 v[kRegisterLanes / wide];
    for (int r = 0; r < kRegisterLanes / wide; ++r) std::memcpy(&v[r], rows[p / wide + r] + x, sizeof(v[r]));
    // Not by way of memory: a load that spans several recent stores has to wait for them.
    const auto first = shuffle<0, 1, 2, 3, 4, 5, 6, 7>(v[0], v[1]);
    if constexpr (kRegisterLanes == 8) {
      return first;
    } else {
      const auto second = shuffle<0, 1, 2, 3, 4, 5, 6, 7>(v[2], v[3]);
      return shuffle<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>(first, second);
    }
  }
}

template <int kHigh>
ZDCE_INLINE void store_pixels_of(Register v, float* const* rows, int x, int p) {
  constexpr int wide = kBlock / kHigh, part = std::min(wide, kRegisterLanes);
  for (int i = 0; i < kRegisterLanes; i += part) {
    std::memcpy(rows[(p + i) / wide] + x + (p + i) % wide, reinterpret_cast<const float*>(&v) + i, 4 * part);
  }
}

// What 16 pixels leave: their curve maps or their enhanced colours. maps: (maps, 16 pixels); the pixels lie in kHigh
// rows, from row y of the band and column x on.
template <int kHigh>
ZDCE_INLINE void leave_pixels(const float* maps, int y, int x, const Finish& finish) {
  constexpr int wide = kBlock / kHigh;
  if (!finish.curve) {
    for (int k = 0; k < finish.maps; ++k) {
      for (int r = 0; r < kHigh; ++r) std::memcpy(finish.results[k][y + r] + x, maps + k * kBlock + r * wide, 4 * wide);
    }
    return;
  }
  // The three colours side by side: a step waits for the one before it.
  for (int p = 0; p < kBlock; p += kRegisterLanes) {
    Register v[3];
    for (int c = 0; c < 3; ++c) v[c] = load_pixels_of<kHigh>(finish.colors[c] + y, x, p);
    for (int t = 0; t < finish.iterations; ++t) {
      const float* const map = maps + (finish.maps == 3 ? 0 : 3 * t * kBlock) + p;
      for (int c = 0; c < 3; ++c) v[c] = step(v[c], load_register(map + c * kBlock));
    }
    for (int c = 0; c < 3; ++c) store_pixels_of<kHigh>(v[c], finish.results[c] + y, x, p);
  }
}

// A tile of 4 x 4 pixels from column x on. logits: (blocks, 16 pixels, 16).
ZDCE_NOINLINE inline void finish_tile(const float* logits, const Layer& layer, int x, const Finish& finish) {
  alignas(64) float maps[(kMaxMaps + kBlock) * kBlock];  // (maps, 16 pixels)
  to_planes(logits, kBlock * kBlock, layer.blocks, layer.half, maps);
  for (int k = 0; k < finish.maps * kBlock; k += 3 * kRegisterLanes) {
    activate(maps + k, kRegisterLanes, finish.strength);
  }
  leave_pixels<kBandRows>(maps, 0, x, finish);
}

ZDCE_INLINE Register rectified(Register v) { return larger(v, Register{}); }

ZDCE_INLINE void store_feature(float* to, Register v) { store_register(to, v); }

// Rounded to the nearest, halves to even. Finite values only.
ZDCE_INLINE void store_feature(BFloat16* to, Register v) {
  typedef uint16_t Halves __attribute__((vector_size(ZDCE_REGISTER_BYTES / 2)));
  auto bits = reinterpret_cast<RegisterBits>(v);
  bits += 0x7fff + ((bits >> 16) & 1);
  const Halves halves = __builtin_convertvector(bits >> 16, Halves);
  std::memcpy(to, &halves, sizeof(halves));
}

ZDCE_INLINE Register load_feature(const float* from) { return load_register(from); }

ZDCE_INLINE Register load_feature(const BFloat16* from) {
#if ZDCE_REGISTER_BYTES == 16
  return reinterpret_cast<Register>(widened_four<true>(from));
#else
  typedef uint16_t Halves __attribute__((vector_size(ZDCE_REGISTER_BYTES / 2)));
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  const auto bits = __builtin_convertvector(halves, RegisterBits) << 16;
  return reinterpret_cast<Register>(bits);
#endif
}

// The first layer, 3 colours to blocks of channels, directly: of its 27 products a pixel, transforms would save too
// little.
struct FirstBand {
  ZDCE_NOINLINE static void run(const Band<float>* band) {
    for (int o = 0; o < band->layer->blocks; ++o) {
      const float* const weights = band->layer->weights + o * 27 * kBlock;
      for (int r = 0; r < kBandRows; ++r) {
        for (int x = band->left; x < band->right; x += kStripTiles) {
          // The last step begins early enough to end in time; what it does twice comes out the same.
          const int from = x + kStripTiles <= band->right ? x : std::max(band->right - kStripTiles, band->left);
          Register sums[kStripTiles][kBlockRegisters];
          for (int p = 0; p < kBlockRegisters; ++p) {
            const Register bias = load_register(band->layer->bias + o * kBlock + p * kRegisterLanes);
            for (int t = 0; t < kStripTiles; ++t) sums[t][p] = bias;
          }
          for (int row = 0; row < 9; ++row) {
            add_row(band->colors[row / 3][r + row % 3] + from - 1, weights + row * 3 * kBlock, sums);
          }
          float* const to = band->outputs[o][r] + static_cast<int64_t>(from) * kBlock;
          for (int t = 0; t < kStripTiles && from + t < band->right; ++t) {
            for (int p = 0; p < kBlockRegisters; ++p)
              store_register(to + t * kBlock + p * kRegisterLanes, rectified(sums[t][p]));
          }
        }
      }
    }
  }

  // values: a row's, from the column before the sums' first on; weights: (3, 16).
  ZDCE_INLINE static void add_row(const float* values, const float* weights,
                                  Register (&sums)[kStripTiles][kBlockRegisters]) {
    // A value, broadcast once, counts for the three pixels around it, if there are registers for all weights.
    constexpr int together = (kStripTiles + 3) * kBlockRegisters < kProcessorRegisters ? 3 : 1;
    // Unrolled, GCC would move sums to memory between the taps.
    ZDCE_NO_UNROLL
    for (int tap = 0; tap < 3; tap += together, values += together, weights += together * kBlock) {
      asm("" : "+r"(values));  // one pointer, or GCC keeps an offset of its own for each of the values
      Register w[together][kBlockRegisters];
      for (int i = 0; i < together * kBlockRegisters; ++i) {
        w[i / kBlockRegisters][i % kBlockRegisters] = load_register(weights + i * kRegisterLanes);
      }
      ZDCE_UNROLL(16)
      for (int i = 0; i < kStripTiles + together - 1; ++i) {
        ZDCE_UNROLL(3)
        for (int k = 0; k < together; ++k) {
          const int t = i - k;
          for (int p = 0; t >= 0 && t < kStripTiles && p < kBlockRegisters; ++p) sums[t][p] += w[k][p] * values[i];
        }
      }
    }
  }
};

struct WinogradBand {
  ZDCE_INLINE static void run(const Band<float>* band, const Finish* finish) {
    const auto use = [&](int x, const float* products) ZDCE_INLINE_LAMBDA {
      if (finish == nullptr) {
        hidden(*band, x, products);
      } else {
        last(*band, x, products, *finish);
      }
    };
    each_tile(*band, use);
  }

  // use(x, products) for each tile of four columns from x on: block o's products are at products + o * kStripProducts,
  // as output_tile reads them.
  template <class Use>
  ZDCE_INLINE static void each_tile(const Band<float>& band, const Use& use) {
    for (int x = band.left; x < band.right; x += 4 * kStripTiles) {
      const int tiles = std::min(kStripTiles, (band.right - x) / 4);
      multiply_pair<0>(band, x, tiles);
      multiply_pair<1>(band, x, tiles);
      multiply_pair<2>(band, x, tiles);
      for (int t = 0; t < tiles; ++t) use(x + 4 * t, band.products + t * kBlock);
    }
  }

  // A third of the 36 points, whose coefficients stay in the first-level cache.
  template <int kPair>
  ZDCE_NOINLINE static void multiply_pair(const Band<float>& band, int x, int tiles) {
    const Layer& layer = *band.layer;
    const int blocks = blocks_of(layer.inputs);
    const int64_t per_point = static_cast<int64_t>(layer.inputs) * (layer.blocks * kBlock + layer.half * 8);
    for (int i = 0; i < blocks; ++i) {
      for (int lane = 0; lane < kBlock; lane += kRegisterLanes) {
        const float* rows[6];
        for (int r = 0; r < 6; ++r) rows[r] = band.inputs[i][r] + static_cast<int64_t>(x - 1) * kBlock + lane;
        input_pair<kPair, kStripTiles>(rows, tiles, band.coefficients + i * 12 * kStripPoint + lane);
      }
    }
    for (int k = 0; k < 12; ++k) {
      const int at = k < 6 ? 6 * kFirst[kPair] + k : 6 * kSecond[kPair] + k - 6;
      multiply_rows<kStripTiles, 12 * kStripTiles, kStripProducts>(
          tiles, band.coefficients + k * kStripPoint, layer.inputs, layer.weights + at * per_point, layer.blocks,
          layer.half, band.products + at * kStripPoint);
    }
  }

  ZDCE_NOINLINE static void hidden(const Band<float>& band, int x, const float* products) {
    for (int o = 0; o < band.layer->blocks; ++o) {
      // Pointers of our own: any store could change those in memory.
      float* rows[kBandRows];
      for (int r = 0; r < kBandRows; ++r) rows[r] = band.outputs[o][r] + static_cast<int64_t>(x) * kBlock;
      const auto put = [&](int r, int column, int part, Register v) ZDCE_INLINE_LAMBDA {
        store_register(rows[r] + column * kBlock + part * kRegisterLanes, rectified(v));
      };
      output_tile(products + o * kStripProducts, band.layer->bias + o * kBlock, put);
    }
  }

  ZDCE_INLINE static void last(const Band<float>& band, int x, const float* products, const Finish& finish) {
    for (int o = 0; o < band.layer->lanes() / kBlock; ++o) {
      float* const pixels = band.pixels + o * kBlock * kBlock;
      const auto put = [&](int r, int column, int part, Register v) ZDCE_INLINE_LAMBDA {
        store_register(pixels + (4 * r + column) * kBlock + part * kRegisterLanes, v);
      };
      output_tile(products + o * kStripProducts, band.layer->bias + o * kBlock, put);
    }
    finish_tile(band.pixels, *band.layer, x, finish);
  }
};

// The 1x1 products of 16 pixels. Coefficients: (input blocks, 16 pixels, 16); products: (output blocks, 16 pixels, 16).
struct FloatProducts {
  static constexpr int kPixel = kBlock;

  ZDCE_INLINE static float* place(float* coefficients, int block) { return coefficients + block * kBlock * kBlock; }

  ZDCE_INLINE static void store(float* to, Register v) { store_register(to, v); }

  ZDCE_INLINE static void multiply(const Band<float>& band) {
    // All pixels at once where each takes one register.
    constexpr int group = kBlockRegisters == 1 ? kBlock : kStripTiles;
    const Layer& layer = *band.layer;
    for (int p = 0; p < kBlock; p += group) {
      multiply_rows<group, kBlock, kBlock * kBlock>(std::min(group, kBlock - p), band.coefficients + p * kBlock,
                                                    layer.inputs, layer.weights, layer.blocks, layer.half,
                                                    band.products + p * kBlock);
    }
  }
};

// Depthwise 3x3 and pointwise 1x1 (Zero-DCE++), a tile of 4 x 4 pixels at a time. Of all but the first layer Products
// holds the coefficients and multiplies.
template <class Products = FloatProducts>
struct SeparableBand {
  ZDCE_INLINE static void run(const Band<float>* band, const Finish* finish) {
    const Layer& layer = *band->layer;
    const int lanes = layer.lanes();
    for (int x = band->left; x < band->right; x += 4) {
      if (layer.sources.empty()) {
        depthwise_of_colors(*band, x);
        FloatProducts::multiply(*band);
      } else {
        for (int i = 0; i < layer.inputs / kBlock; ++i) depthwise(*band, x, i);
        Products::multiply(*band);
      }
      for (int p = 0; p < kBlock; ++p) {
        for (int o = 0; o < lanes; o += kRegisterLanes) {
          float* const at = band->products + (o / kBlock * kBlock + p) * kBlock + o % kBlock;
          const auto v = load_register(at) + load_register(layer.bias + o);
          if (finish != nullptr) {
            store_register(at, v);
          } else {
            float* const to = band->outputs[o / kBlock][p / 4] + static_cast<int64_t>(x + p % 4) * kBlock + o % kBlock;
            store_register(to, rectified(v));
          }
        }
      }
      if (finish != nullptr) finish_tile(band->products, layer, x, *finish);
    }
  }

  ZDCE_INLINE static void depthwise(const Band<float>& band, int x, int block) {
    const int inputs = band.layer->inputs;
    for (int lane = 0; lane < kBlock; lane += kRegisterLanes) {
      Register filters[10];  // nine taps and the bias
      for (int tap = 0; tap < 10; ++tap) {
        filters[tap] = load_register(band.layer->depthwise + tap * inputs + block * kBlock + lane);
      }
      const float* rows[6];
      for (int r = 0; r < 6; ++r) rows[r] = band.inputs[block][r] + static_cast<int64_t>(x - 1) * kBlock + lane;
      ZDCE_UNROLL(16)
      for (int p = 0; p < kBlock; ++p) {
        Register sum = filters[9];
        ZDCE_UNROLL(9)
        for (int tap = 0; tap < 9; ++tap) {
          sum += filters[tap] * load_register(rows[p / 4 + tap / 3] + (p % 4 + tap % 3) * kBlock);
        }
        Products::store(Products::place(band.coefficients, block) + p * Products::kPixel + lane, sum);
      }
    }
  }

  // depthwise: (10, 16), of which 3 channels are used.
  ZDCE_INLINE static void depthwise_of_colors(const Band<float>& band, int x) {
    const float* const filters = band.layer->depthwise;
    for (int p = 0; p < kBlock; ++p) {
      for (int c = 0; c < 3; ++c) {
        float sum = filters[9 * kBlock + c];
        for (int tap = 0; tap < 9; ++tap) {
          sum += filters[tap * kBlock + c] * band.colors[c][p / 4 + tap / 3][x + p % 4 + tap % 3 - 1];
        }
        band.coefficients[kBlock * p + c] = sum;
      }
    }
  }
};

}  // namespace zdce::ZDCE_TARGET
