// Four rows of one layer, from rows of its inputs to rows of its feature maps or, in the last layer, to enhanced
// pixels.
#pragma once

#include "network.h"

namespace zdce::engine {

constexpr int kRows = 4;

// Where the rows of one layer's inputs and outputs lie. Columns are counted from the beginning of the rows' memory;
// left and right differ by a multiple of 4, and inputs are read from left - 1 to right.
template <class F>
struct Band {
  const Layer* layer;
  int left, right;
  // Rows y - 1 to y + 4 of the picture's colours, for the first layer.
  const float* const (*colors)[6];
  // Rows y - 1 to y + 4 of each block of input channels, for the others; in bfloat16, of each source's pixels.
  const F* const (*inputs)[6];
  // Rows y to y + 3 of each block of output channels. Null in the last layer.
  F* const (*outputs)[kRows];
  // (12, input blocks, kTiles, 16), (36, kTiles, lanes), (16 pixels, lanes): scratch.
  float *coefficients, *products, *pixels;
  // From a pixel of a block of outputs to the next.
  int pitch = kBlock;
};

// What becomes of the last layer's logits.
struct Finish {
  int maps, iterations;
  float strength;
  // Rows y to y + 3 of the picture's colours and of the result's; the result is the enhanced picture, or the curve maps
  // (row r of map k at results[k][r]).
  const float* colors[3][kRows];
  float* results[kMaxMaps][kRows];
  bool curve;
};

template <int kBytes>
struct Index {
  typedef int32_t type __attribute__((vector_size(kBytes)));
  typedef uint32_t bits __attribute__((vector_size(kBytes)));
};

// Lanes 0, n, 1, n + 1, ... of a and b side by side: the first half of them, and the second.
template <int kBytes, bool kSecond>
ZDCE_INLINE typename Part<kBytes>::type interleave(typename Part<kBytes>::type a, typename Part<kBytes>::type b) {
  constexpr int n = Part<kBytes>::lanes, first = kSecond ? n / 2 : 0;
  typename Index<kBytes>::type at;
  for (int i = 0; i < n / 2; ++i) at[2 * i] = first + i, at[2 * i + 1] = n + first + i;
  return __builtin_shuffle(a, b, at);
}

// from: (16, lanes of 16 from `from` on, `stride` apart); to: (16, 16) transposed.
template <int kBytes>
ZDCE_INLINE void transpose(const float* from, int stride, float* to) {
  constexpr int n = Part<kBytes>::lanes;
  using V = typename Part<kBytes>::type;
  for (int row = 0; row < kBlock; row += n) {
    for (int lane = 0; lane < kBlock; lane += n) {
      V v[n], w[n];
      for (int i = 0; i < n; ++i) v[i] = load_part<kBytes>(from + (row + i) * stride + lane);
      for (int stage = 1; stage < n; stage *= 2) {
        for (int i = 0; i < n / 2; ++i) {
          w[2 * i] = interleave<kBytes, false>(v[i], v[i + n / 2]);
          w[2 * i + 1] = interleave<kBytes, true>(v[i], v[i + n / 2]);
        }
        for (int i = 0; i < n; ++i) v[i] = w[i];
      }
      for (int i = 0; i < n; ++i) store_part<kBytes>(to + (lane + i) * kBlock + row, v[i]);
    }
  }
}

// Logits become scaled curve maps, three vectors side by side. One division serves them all: on AVX-512 it takes as
// long as 16 multiplications. Denominators are at most 512, so their product is far from float's limits.
template <int kBytes>
ZDCE_INLINE void activate(float* maps, float strength) {
  using V = typename Part<kBytes>::type;
  constexpr int lanes = Part<kBytes>::lanes;
  Fraction<V> y[3];
  for (int i = 0; i < 3; ++i) y[i] = tangent_fraction(load_part<kBytes>(maps + i * lanes));
  const V first_two = y[0].denominator * y[1].denominator;
  const V inverse = strength / (first_two * y[2].denominator), of_two = inverse * y[2].denominator;
  store_part<kBytes>(maps, within_one(y[0].numerator * (of_two * y[1].denominator)));
  store_part<kBytes>(maps + lanes, within_one(y[1].numerator * (of_two * y[0].denominator)));
  store_part<kBytes>(maps + 2 * lanes, within_one(y[2].numerator * (inverse * first_two)));
}

// Outputs of 16 pixels, planar. pixels: (16, blocks and perhaps a half one in 16 lanes); planes: (16 * blocks and
// perhaps 8, 16).
template <int kBytes>
ZDCE_INLINE void to_planes(const float* pixels, int blocks, bool half, float* planes) {
  using V = typename Part<kBytes>::type;
  constexpr int lanes = Part<kBytes>::lanes;
  const int stride = (blocks + half) * kBlock;
  for (int o = 0; o < blocks; ++o) transpose<kBytes>(pixels + o * kBlock, stride, planes + o * kBlock * kBlock);
  if (half) {
    alignas(64) float folded[kBlock * kBlock];
    transpose<kBytes>(pixels + blocks * kBlock, stride, folded);
    for (int i = 0; i < 8; ++i) {
      for (int p = 0; p < kBlock; p += lanes) {
        const V even = load_part<kBytes>(folded + 2 * i * kBlock + p),
                odd = load_part<kBytes>(folded + (2 * i + 1) * kBlock + p);
        store_part<kBytes>(planes + (blocks * kBlock + i) * kBlock + p, even + odd);
      }
    }
  }
}

// 16 pixels from column x on, in kHigh rows from the band's row y on. logits: (16 pixels, lanes).
template <int kBytes, int kHigh>
ZDCE_INLINE void finish_pixels(const float* logits, const Layer& layer, int y, int x, const Finish& finish) {
  using V = typename Part<kBytes>::type;
  constexpr int lanes = Part<kBytes>::lanes, wide = kBlock / kHigh;
  alignas(64) float maps[(kMaxMaps + kBlock) * kBlock];  // (maps, 16 pixels)
  to_planes<kBytes>(logits, layer.blocks, layer.half, maps);
  for (int k = 0; k < finish.maps * kBlock; k += 3 * lanes) activate<kBytes>(maps + k, finish.strength);
  if (!finish.curve) {
    for (int k = 0; k < finish.maps; ++k) {
      for (int r = 0; r < kHigh; ++r) std::memcpy(finish.results[k][y + r] + x, maps + k * kBlock + r * wide, 4 * wide);
    }
    return;
  }
  for (int c = 0; c < 3; ++c) {
    alignas(64) float color[kBlock];
    for (int r = 0; r < kHigh; ++r) std::memcpy(color + wide * r, finish.colors[c][y + r] + x, 4 * wide);
    for (int p = 0; p < kBlock; p += lanes) {
      V v = load_part<kBytes>(color + p);
      for (int t = 0; t < finish.iterations; ++t) {
        v = step(v, load_part<kBytes>(maps + (finish.maps == 3 ? c : 3 * t + c) * kBlock + p));
      }
      store_part<kBytes>(color + p, v);
    }
    for (int r = 0; r < kHigh; ++r) std::memcpy(finish.results[c][y + r] + x, color + wide * r, 4 * wide);
  }
}

template <int kBytes>
ZDCE_INLINE typename Part<kBytes>::type rectified(typename Part<kBytes>::type v) {
  const typename Part<kBytes>::type zero{};
  return v > zero ? v : zero;
}

template <int kBytes>
ZDCE_INLINE void store_feature(float* to, typename Part<kBytes>::type v) {
  store_part<kBytes>(to, v);
}

// Rounded to the nearest, halves to even. Finite values only.
template <int kBytes>
ZDCE_INLINE void store_feature(Brain* to, typename Part<kBytes>::type v) {
  typedef uint16_t Halves __attribute__((vector_size(kBytes / 2)));
  auto bits = reinterpret_cast<typename Index<kBytes>::bits>(v);
  bits += 0x7fff + ((bits >> 16) & 1);
  const Halves halves = __builtin_convertvector(bits >> 16, Halves);
  std::memcpy(to, &halves, sizeof(halves));
}

template <int kBytes>
ZDCE_INLINE typename Part<kBytes>::type load_feature(const float* from) {
  return load_part<kBytes>(from);
}

template <int kBytes>
ZDCE_INLINE typename Part<kBytes>::type load_feature(const Brain* from) {
  typedef uint16_t Halves __attribute__((vector_size(kBytes / 2)));
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  const auto bits = __builtin_convertvector(halves, typename Index<kBytes>::bits) << 16;
  return reinterpret_cast<typename Part<kBytes>::type>(bits);
}

// The first layer, 3 colours to blocks of channels, directly: of its 27 products a pixel, transforms would save too
// little.
template <class F, int kBytes, int kTiles>
struct FirstBand {
  ZDCE_INLINE static void run(const Band<F>* band) {
    using V = typename Part<kBytes>::type;
    constexpr int parts = Part<kBytes>::parts, lanes = Part<kBytes>::lanes;
    for (int o = 0; o < band->layer->blocks; ++o) {
      const float* const weights = band->layer->weights + o * 27 * kBlock;
      for (int r = 0; r < kRows; ++r) {
        for (int x = band->left; x < band->right; x += kTiles) {
          // The last step begins early enough to end in time; what it does twice comes out the same.
          const int from = x + kTiles <= band->right ? x : std::max(band->right - kTiles, band->left);
          V sums[kTiles][parts];
          for (int p = 0; p < parts; ++p) {
            const V bias = load_part<kBytes>(band->layer->bias + o * kBlock + p * lanes);
            for (int t = 0; t < kTiles; ++t) sums[t][p] = bias;
          }
          for (int row = 0; row < 9; ++row) {
            const float* const values = band->colors[row / 3][r + row % 3] + from - 1;
            V w[3][parts];
            for (int i = 0; i < 3 * parts; ++i) {
              w[i / parts][i % parts] = load_part<kBytes>(weights + row * 3 * kBlock + i * lanes);
            }
            // A value, broadcast once, counts for the three pixels around it.
#pragma GCC unroll 16
            for (int i = 0; i < kTiles + 2; ++i) {
#pragma GCC unroll 3
              for (int tap = 0; tap < 3; ++tap) {
                const int t = i - tap;
                for (int p = 0; t >= 0 && t < kTiles && p < parts; ++p) sums[t][p] += w[tap][p] * values[i];
              }
            }
          }
          F* const to = band->outputs[o][r] + static_cast<int64_t>(from) * band->pitch;
          for (int t = 0; t < kTiles && from + t < band->right; ++t) {
            for (int p = 0; p < parts; ++p)
              store_feature<kBytes>(to + t * band->pitch + p * lanes, rectified<kBytes>(sums[t][p]));
          }
        }
      }
    }
  }
};

template <int kBytes, int kTiles>
struct WinogradBand {
  ZDCE_INLINE static void run(const Band<float>* band, const Finish* finish) {
    const auto use = [&](int x, const float* products, int point) __attribute__((always_inline)) {
      if (finish == nullptr) {
        hidden(*band, x, products, point);
      } else {
        last(*band, x, products, point, *finish);
      }
    };
    each_tile(*band, use);
  }

  // use(x, products, point) for each tile of four columns from x on: lanes of its point k are at products + k * point.
  template <class Use>
  ZDCE_INLINE static void each_tile(const Band<float>& band, const Use& use) {
    const int lanes = band.layer->lanes();
    for (int x = band.left; x < band.right; x += 4 * kTiles) {
      const int tiles = std::min(kTiles, (band.right - x) / 4);
      multiply_pair<0>(band, x, tiles);
      multiply_pair<1>(band, x, tiles);
      multiply_pair<2>(band, x, tiles);
      for (int t = 0; t < tiles; ++t) use(x + 4 * t, band.products + t * lanes, kTiles * lanes);
    }
  }

  // A third of the 36 points, whose coefficients stay in the first-level cache.
  template <int kPair>
  ZDCE_INLINE static void multiply_pair(const Band<float>& band, int x, int tiles) {
    const Layer& layer = *band.layer;
    const int blocks = blocks_of(layer.inputs), point = blocks * kTiles * kBlock;
    const int64_t per_point = static_cast<int64_t>(layer.inputs) * (layer.blocks * kBlock + layer.half * 8);
    for (int i = 0; i < blocks; ++i) {
      for (int lane = 0; lane < kBlock; lane += Part<kBytes>::lanes) {
        const float* rows[6];
        for (int r = 0; r < 6; ++r) rows[r] = band.inputs[i][r] + static_cast<int64_t>(x - 1) * kBlock + lane;
        input_pair<kBytes, kPair>(rows, tiles, point, band.coefficients + i * kTiles * kBlock + lane);
      }
    }
    for (int k = 0; k < 12; ++k) {
      const int at = k < 6 ? 6 * kFirst[kPair] + k : 6 * kSecond[kPair] + k - 6;
      multiply_rows<kBytes, kTiles, kTiles>(tiles, band.coefficients + k * point, layer.inputs,
                                            layer.weights + at * per_point, layer.blocks, layer.half,
                                            band.products + at * kTiles * layer.lanes());
    }
  }

  ZDCE_INLINE static void hidden(const Band<float>& band, int x, const float* products, int point) {
    for (int o = 0; o < band.layer->blocks; ++o) {
      const auto put = [&](int r, int column, int part, typename Part<kBytes>::type v) __attribute__((always_inline)) {
        float* const to = band.outputs[o][r] + static_cast<int64_t>(x + column) * kBlock;
        store_part<kBytes>(to + part * Part<kBytes>::lanes, rectified<kBytes>(v));
      };
      output_tile<kBytes>(products + o * kBlock, point, band.layer->bias + o * kBlock, put);
    }
  }

  ZDCE_INLINE static void last(const Band<float>& band, int x, const float* products, int point, const Finish& finish) {
    const int lanes = band.layer->lanes();
    for (int o = 0; o < lanes / kBlock; ++o) {
      const auto put = [&](int r, int column, int part, typename Part<kBytes>::type v) __attribute__((always_inline)) {
        store_part<kBytes>(band.pixels + (4 * r + column) * lanes + o * kBlock + part * Part<kBytes>::lanes, v);
      };
      output_tile<kBytes>(products + o * kBlock, point, band.layer->bias + o * kBlock, put);
    }
    finish_pixels<kBytes, 4>(band.pixels, *band.layer, 0, x, finish);
  }
};

// The 1x1 products of 16 pixels. Coefficients: (input blocks, 16 pixels, 16).
template <int kBytes, int kTiles>
struct FloatProducts {
  static constexpr int kPixel = kBlock;

  ZDCE_INLINE static float* place(float* coefficients, int block) { return coefficients + block * kBlock * kBlock; }

  ZDCE_INLINE static void multiply(const Band<float>& band) {
    const Layer& layer = *band.layer;
    for (int p = 0; p < kBlock; p += kTiles) {
      multiply_rows<kBytes, kTiles, kBlock>(std::min(kTiles, kBlock - p), band.coefficients + p * kBlock, layer.inputs,
                                            layer.weights, layer.blocks, layer.half, band.products + p * layer.lanes());
    }
  }
};

// Depthwise 3x3 and pointwise 1x1 (Zero-DCE++), a tile of 4 x 4 pixels at a time. Of all but the first layer Products
// multiplies.
template <int kBytes, int kTiles, class Products = FloatProducts<kBytes, kTiles>>
struct SeparableBand {
  ZDCE_INLINE static void run(const Band<float>* band, const Finish* finish) {
    const Layer& layer = *band->layer;
    const int lanes = layer.lanes();
    for (int x = band->left; x < band->right; x += 4) {
      if (layer.sources.empty()) {
        depthwise_of_colors(*band, x);
        FloatProducts<kBytes, kTiles>::multiply(*band);
      } else {
        for (int i = 0; i < layer.inputs / kBlock; ++i) depthwise(*band, x, i);
        Products::multiply(*band);
      }
      for (int p = 0; p < kBlock; ++p) {
        for (int o = 0; o < lanes; o += Part<kBytes>::lanes) {
          float* const at = band->products + p * lanes + o;
          const auto v = load_part<kBytes>(at) + load_part<kBytes>(layer.bias + o);
          if (finish != nullptr) {
            store_part<kBytes>(at, v);
          } else {
            float* const to = band->outputs[o / kBlock][p / 4] + static_cast<int64_t>(x + p % 4) * kBlock + o % kBlock;
            store_part<kBytes>(to, rectified<kBytes>(v));
          }
        }
      }
      if (finish != nullptr) finish_pixels<kBytes, 4>(band->products, layer, 0, x, *finish);
    }
  }

  ZDCE_INLINE static void depthwise(const Band<float>& band, int x, int block) {
    const int inputs = band.layer->inputs;
    for (int lane = 0; lane < kBlock; lane += Part<kBytes>::lanes) {
      const float* const filters = band.layer->depthwise + block * kBlock + lane;
      for (int p = 0; p < kBlock; ++p) {
        auto sum = load_part<kBytes>(filters + 9 * inputs);
        for (int tap = 0; tap < 9; ++tap) {
          const float* const row = band.inputs[block][p / 4 + tap / 3];
          sum += load_part<kBytes>(filters + tap * inputs) *
                 load_part<kBytes>(row + static_cast<int64_t>(x + p % 4 + tap % 3 - 1) * kBlock + lane);
        }
        store_feature<kBytes>(Products::place(band.coefficients, block) + p * Products::kPixel + lane, sum);
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

}  // namespace zdce::engine
