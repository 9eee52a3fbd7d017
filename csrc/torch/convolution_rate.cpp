// How fast a 3x3 convolution is in the ways that there are to do it: four rows from six, on one thread, all of them in
// its second-level cache.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <chrono>

#include "../core/engine/bands.h"
#include "../core/engine/pack.h"
#include "../core/engine/workspace.h"

namespace zdce {
namespace {

using torch::stable::Tensor;
using namespace engine;

// As bench/layers.py numbers them. kColors is how the engine does its first layer, with a ReLU.
enum Way : int64_t { kDirect, kOneAxis, kTwoAxes, kColors };

// Planar ways hold kFilters x kVectors sums in registers, one a filter and vector of neighbouring pixels: 24 of 32 with
// AVX-512, 12 of 16 elsewhere, so that each weight, broadcast, serves three multiplications.
constexpr int kVectors = 3;
constexpr int kColumnStep = kVectors * kBlock;
constexpr int kMostChannels = 128;

template <int kBytes>
constexpr int kFilters = kBytes == 64 ? 8 : 4;

struct Problem {
  int inputs, outputs, columns;
  const float* from;    // (inputs, 6, columns + 2)
  const float* filter;  // (outputs, inputs, 3, 3)
  const float* bias;    // (outputs,)
  float* to;            // (outputs, 4, columns)

  int64_t pitch() const { return columns + 2; }
};

int64_t grouped(int outputs) { return (outputs + 7) / 8 * 8; }

// Sums over channels, kHigh rows and three columns. from: (inputs, 6, pitch), whose first kHigh rows are read; weights:
// (outputs / kFilters, inputs, kHigh, 3, kFilters); bias: (outputs in eights,), null for none; to: (outputs, 1,
// columns), `stride` apart.
template <int kBytes, int kHigh>
ZDCE_INLINE void planar_row(const Problem& work, const float* from, const float* weights, const float* bias, float* to,
                            int64_t stride) {
  using V = typename Part<kBytes>::type;
  constexpr int lanes = Part<kBytes>::lanes, filters = kFilters<kBytes>;
  for (int o = 0; o < work.outputs; o += filters) {
    for (int x = 0; x < work.columns; x += kVectors * lanes) {
      const float* w = weights + static_cast<int64_t>(o) * work.inputs * kHigh * 3;
      V sums[filters][kVectors] = {};
      for (int c = 0; c < work.inputs; ++c) {
#pragma GCC unroll 9
        for (int tap = 0; tap < 3 * kHigh; ++tap, w += filters) {
          const float* const at = from + (int64_t{6} * c + tap / 3) * work.pitch() + x + tap % 3;
          V v[kVectors];
          for (int i = 0; i < kVectors; ++i) v[i] = load_part<kBytes>(at + i * lanes);
#pragma GCC unroll 8
          for (int f = 0; f < filters; ++f) {
            for (int i = 0; i < kVectors; ++i) sums[f][i] += w[f] * v[i];
          }
        }
      }
      for (int f = 0; f < std::min(filters, work.outputs - o); ++f) {
        for (int i = 0; i < kVectors; ++i) {
          const V sum = bias == nullptr ? sums[f][i] : sums[f][i] + bias[o + f];
          store_part<kBytes>(to + (o + f) * stride + x + i * lanes, sum);
        }
      }
    }
  }
}

template <int kBytes, int>
struct Direct {
  ZDCE_INLINE static void run(const Problem* work, const float* weights) {
    for (int y = 0; y < kRows; ++y) {
      planar_row<kBytes, 3>(*work, work->from + y * work->pitch(), weights, work->bias, work->to + y * work->columns,
                            int64_t{kRows} * work->columns);
    }
  }
};

// F(4, 3) down the columns: 6 rows of products for 4 of outputs. weights: (6, outputs / kFilters, inputs, 3, kFilters);
// coefficients: (inputs, 6, pitch); products: (outputs, 6, columns).
template <int kBytes, int>
struct OneAxis {
  using V = typename Part<kBytes>::type;
  static constexpr int lanes = Part<kBytes>::lanes;

  ZDCE_INLINE static void run(const Problem* work, const float* weights, float* coefficients, float* products) {
    const int64_t columns = work->columns, pitch = work->pitch();
    for (int c = 0; c < work->inputs; ++c) {
      const float* const from = work->from + 6 * c * pitch;
      float* const to = coefficients + 6 * c * pitch;
      // The last step begins early enough to end in time.
      for (int64_t x = 0; x < pitch; x += lanes)
        transform(from + std::min(x, pitch - lanes), pitch, to + std::min(x, pitch - lanes));
    }
    const int64_t point = grouped(work->outputs) * work->inputs * 3;
    for (int k = 0; k < 6; ++k) {
      planar_row<kBytes, 1>(*work, coefficients + k * pitch, weights + k * point, nullptr, products + k * columns,
                            6 * columns);
    }
    for (int o = 0; o < work->outputs; ++o) {
      for (int64_t x = 0; x < columns; x += lanes) {
        V m[6], y[4];
        for (int k = 0; k < 6; ++k) m[k] = load_part<kBytes>(products + (6 * o + k) * columns + x);
        transform_output(m, V{} + work->bias[o], y);
        for (int r = 0; r < kRows; ++r) store_part<kBytes>(work->to + (kRows * o + r) * columns + x, y[r]);
      }
    }
  }

  ZDCE_INLINE static void transform(const float* from, int64_t pitch, float* to) {
    V d[6], v[6];
    for (int r = 0; r < 6; ++r) d[r] = load_part<kBytes>(from + r * pitch);
    transform_input<0>(d, v[kFirst[0]], v[kSecond[0]]);
    transform_input<1>(d, v[kFirst[1]], v[kSecond[1]]);
    transform_input<2>(d, v[kFirst[2]], v[kSecond[2]]);
    for (int k = 0; k < 6; ++k) store_part<kBytes>(to + k * pitch, v[k]);
  }
};

template <int kBytes, int kTiles>
using Colors = FirstBand<float, kBytes, kTiles>;

// The engine's own, but for what becomes of the outputs: here they are stored as they are, a half block folded.
// outputs: (blocks and half ones, 4, columns, 16).
template <int kBytes, int kTiles>
struct TwoAxes {
  ZDCE_INLINE static void run(const Band<float>* band, float* outputs) {
    const int columns = band->right - band->left;
    const auto use = [&](int x, const float* products, int point) __attribute__((always_inline)) {
      for (int o = 0; o < band->layer->lanes() / kBlock; ++o) {
        float* const to = outputs + (int64_t{kRows} * o * columns + x - band->left) * kBlock;
        const auto put = [&](int r, int column, int part, typename Part<kBytes>::type v)
                             __attribute__((always_inline)) {
                               store_part<kBytes>(to + (r * columns + column) * kBlock + part * Part<kBytes>::lanes, v);
                             };
        output_tile<kBytes>(products + o * kBlock, point, band->layer->bias + o * kBlock, put);
      }
    };
    WinogradBand<kBytes, kTiles>::each_tile(*band, use);
  }
};

// Zeroed, on a cache line.
class Floats {
 public:
  explicit Floats(int64_t size) { offsets_.take(size), at_ = workspace_.take(offsets_); }
  float* get() { return at_; }

 private:
  Offsets offsets_;
  Workspace workspace_;
  float* at_;
};

template <class F>
double seconds_a_round(int64_t rounds, const F& run) {
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < rounds; ++i) run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / static_cast<double>(rounds);
}

// weights: (points, outputs in groups, inputs, taps, filters of a group); value(filter, k, tap) gives point k's tap of
// a filter (3, 3).
template <class F>
void pack_planar(const Problem& work, int points, int taps, float* weights, const F& value) {
  const int filters = isa() == Isa::kAvx512 ? kFilters<64> : kFilters<32>;
  for (int k = 0; k < points; ++k) {
    for (int o = 0; o < work.outputs; ++o) {
      for (int i = 0; i < work.inputs * taps; ++i) {
        const float* const filter = work.filter + (int64_t{o} * work.inputs + i / taps) * 9;
        const int64_t group = (k * grouped(work.outputs) + o - o % filters) * work.inputs * taps;
        weights[group + i * filters + o % filters] = static_cast<float>(value(filter, k, i % taps));
      }
    }
  }
}

double planar(const Problem& work, bool transformed, int64_t rounds) {
  const Isa best = isa();
  const Problem* const problem = &work;
  Floats packed(grouped(work.outputs) * work.inputs * 18);
  const float* const weights = packed.get();
  if (!transformed) {
    pack_planar(work, 1, 9, packed.get(), [](const float* filter, int, int tap) { return filter[tap]; });
    return seconds_a_round(rounds, [&] { with_tiles<Direct>(best, problem, weights); });
  }
  pack_planar(work, 6, 3, packed.get(), [](const float* filter, int k, int x) {
    double u[6];
    transform_filter({filter[x], filter[3 + x], filter[6 + x]}, u);
    return u[k];
  });
  Floats coefficients(int64_t{6} * work.inputs * work.pitch()), products(int64_t{6} * work.outputs * work.columns);
  return seconds_a_round(rounds,
                         [&] { with_tiles<OneAxis>(best, problem, weights, coefficients.get(), products.get()); });
}

// A layer as the engine has it, reading other layers or (colors) the picture, with its weights in `packed`.
Layer engine_layer(const Problem& work, bool colors, Floats& packed, Floats& bias) {
  Layer layer;
  const int rest = work.outputs % kBlock;
  layer.outputs = work.outputs;
  layer.blocks = blocks_of(work.outputs);
  layer.half = !colors && rest > 0 && rest <= 8;
  layer.blocks -= layer.half;
  // Less than a block of inputs is multiplied as it is, but pairs of channels come in whole blocks.
  layer.inputs = work.inputs < kBlock && !layer.half ? work.inputs : blocks_of(work.inputs) * kBlock;
  std::vector<int> places(work.inputs);
  for (int c = 0; c < work.inputs; ++c) places[c] = c;
  if (colors) {
    pack_first(layer, work.filter, packed.get());
  } else {
    pack_winograd(layer, places, work.filter, packed.get());
  }
  const int whole = layer.blocks * kBlock;
  for (int o = 0; o < work.outputs; ++o) bias.get()[o < whole ? o : whole + 2 * (o - whole)] = work.bias[o];
  layer.weights = packed.get(), layer.bias = bias.get();
  return layer;
}

double in_blocks(const Problem& work, bool colors, int64_t rounds) {
  const Isa best = isa();
  const int in = blocks_of(work.inputs), out = blocks_of(work.outputs);
  const int64_t pitch = work.pitch(), columns = work.columns;
  Floats packed(int64_t{kPoints} * in * out * kBlock * kBlock), bias(out * kBlock);
  const Layer layer = engine_layer(work, colors, packed, bias);
  // Column 0 is the one before the first.
  Floats inputs(in * 6 * pitch * kBlock), outputs(out * kRows * columns * kBlock);
  Floats coefficients(12 * in * kMaxTiles * kBlock), products(int64_t{kPoints} * kMaxTiles * out * kBlock);
  const float *rows[kMaxInputBlocks][6], *planes[3][6];
  float* results[kMaxInputBlocks][kRows];
  for (int c = 0; c < work.inputs; ++c) {
    float* const to = inputs.get() + c / kBlock * 6 * pitch * kBlock + c % kBlock;
    for (int64_t i = 0; i < 6 * pitch; ++i) to[i * kBlock] = work.from[c * 6 * pitch + i];
  }
  for (int r = 0; r < 6; ++r) {
    for (int i = 0; i < in; ++i) rows[i][r] = inputs.get() + (i * 6 + r) * pitch * kBlock;
    for (int c = 0; c < 3; ++c) planes[c][r] = work.from + (c % work.inputs * 6 + r) * pitch;
  }
  const auto row = [&](int o, int r) { return outputs.get() + (int64_t{kRows} * o + r) * columns * kBlock; };
  for (int o = 0; o < out; ++o) {
    for (int r = 0; r < kRows; ++r) results[o][r] = row(o, r) - kBlock;
  }
  const Band<float> band{&layer,         1,      work.columns + 1, planes, rows, results, coefficients.get(),
                         products.get(), nullptr};
  const Band<float>* const at = &band;
  const double seconds = colors ? seconds_a_round(rounds, [&] { with_tiles<Colors>(best, at); })
                                : seconds_a_round(rounds, [&] { with_tiles<TwoAxes>(best, at, outputs.get()); });
  const int whole = layer.blocks * kBlock;
  for (int o = 0; o < work.outputs; ++o) {
    const int lane = o < whole ? o : whole + 2 * (o - whole);
    for (int64_t i = 0; i < kRows * columns; ++i) {
      const float* const from = row(lane / kBlock, 0) + i * kBlock + lane % kBlock;
      work.to[o * kRows * columns + i] = o < whole ? *from : from[0] + from[1];
    }
  }
  return seconds;
}

// rows: (C, 6, columns + 2), columns a multiple of 48; weight: (O, C, 3, 3); bias: (O,); results: (O, 4, columns),
// written. Gives the seconds of one of `rounds` runs, packing left out.
double convolution_rate(const Tensor rows, const Tensor weight, const Tensor bias, int64_t way, int64_t rounds,
                        const Tensor results) {
  const auto floats = [](const Tensor& tensor, int64_t dim) {
    if (tensor.scalar_type() != torch::headeronly::ScalarType::Float || !tensor.is_contiguous() || tensor.dim() != dim)
      throw std::runtime_error("zdce: convolution_rate takes contiguous float32 tensors");
    return static_cast<float*>(tensor.data_ptr());
  };
  const float *const from = floats(rows, 3), *const filter = floats(weight, 4), *const biases = floats(bias, 1);
  float* const to = floats(results, 3);
  const int64_t inputs = rows.size(0), columns = rows.size(2) - 2, outputs = weight.size(0);
  if (inputs < 1 || inputs > kMostChannels || outputs < 1 || outputs > kMostChannels || rows.size(1) != 6 ||
      columns < 1 || columns > (1 << 16) || columns % kColumnStep != 0 || weight.size(1) != inputs ||
      weight.size(2) != 3 || weight.size(3) != 3 || bias.size(0) != outputs || results.size(0) != outputs ||
      results.size(1) != kRows || results.size(2) != columns || way < kDirect || way > kColors ||
      (way == kColors && inputs != 3) || rounds < 1) {
    throw std::runtime_error(
        "zdce: rows must be (C, 6, W + 2), weight (O, C, 3, 3), bias (O,) and results (O, 4, W)"
        " with W a multiple of 48 and at most 128 channels, 3 of colours");
  }
  const Problem work{
      static_cast<int>(inputs), static_cast<int>(outputs), static_cast<int>(columns), from, filter, biases, to};
  return way < kTwoAxes ? planar(work, way == kOneAxis, rounds) : in_blocks(work, way == kColors, rounds);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) { m.impl("convolution_rate", TORCH_BOX(&zdce::convolution_rate)); }
