// The methods of 3x3 convolution that zdce bench layers compares: four rows from six on one thread, with all data in
// its second-level cache.
#pragma once

#include "bands.h"

namespace zdce::ZDCE_TARGET::convolution_rate {

// The planar methods keep kFilters x kVectors sums in registers, one for each filter and vector of neighbouring pixels:
// 24 of 32 registers with AVX-512, 12 of 16 elsewhere. Each broadcast weight then serves three multiplications.
constexpr int kVectors = 3;
static_assert(kVectors * kBlock == kRateColumnStep);
constexpr int kFilters = ZDCE_REGISTER_BYTES == 64 ? 8 : 4;

inline int64_t grouped(int outputs) { return (outputs + 7) / 8 * 8; }

// Sums over channels, kHigh rows and three columns. from: (inputs, 6, pitch), whose first kHigh rows are read; weights:
// (outputs / kFilters, inputs, kHigh, 3, kFilters); bias: (outputs in eights,), null for none; to: (outputs, 1,
// columns), `stride` apart.
template <int kHigh>
ZDCE_INLINE void planar_row(const RateProblem& work, const float* from, const float* weights, const float* bias,
                            float* to, int64_t stride) {
  constexpr int filters = kFilters;
  for (int o = 0; o < work.outputs; o += filters) {
    for (int x = 0; x < work.columns; x += kVectors * kRegisterLanes) {
      const float* w = weights + static_cast<int64_t>(o) * work.inputs * kHigh * 3;
      Register sums[filters][kVectors] = {};
      for (int c = 0; c < work.inputs; ++c) {
        ZDCE_UNROLL(9)
        for (int tap = 0; tap < 3 * kHigh; ++tap, w += filters) {
          const float* const at = from + (int64_t{6} * c + tap / 3) * work.pitch() + x + tap % 3;
          Register v[kVectors];
          for (int i = 0; i < kVectors; ++i) v[i] = load_register(at + i * kRegisterLanes);
          ZDCE_UNROLL(8)
          for (int f = 0; f < filters; ++f) {
            for (int i = 0; i < kVectors; ++i) sums[f][i] += w[f] * v[i];
          }
        }
      }
      for (int f = 0; f < std::min(filters, work.outputs - o); ++f) {
        for (int i = 0; i < kVectors; ++i) {
          const Register sum = bias == nullptr ? sums[f][i] : sums[f][i] + bias[o + f];
          store_register(to + (o + f) * stride + x + i * kRegisterLanes, sum);
        }
      }
    }
  }
}

struct Direct {
  ZDCE_INLINE static void run(const RateProblem* work, const float* weights) {
    for (int y = 0; y < kBandRows; ++y) {
      planar_row<3>(*work, work->from + y * work->pitch(), weights, work->bias, work->to + y * work->columns,
                    int64_t{kBandRows} * work->columns);
    }
  }
};

// F(4, 3) down the columns: 6 rows of products for 4 of outputs. weights: (6, outputs / kFilters, inputs, 3, kFilters);
// coefficients: (inputs, 6, pitch); products: (outputs, 6, columns).
struct OneAxis {
  ZDCE_INLINE static void run(const RateProblem* work, const float* weights, float* coefficients, float* products) {
    const int64_t columns = work->columns, pitch = work->pitch();
    for (int c = 0; c < work->inputs; ++c) {
      const float* const from = work->from + 6 * c * pitch;
      float* const to = coefficients + 6 * c * pitch;
      // The last step overlaps the one before, so that it ends at the last column.
      for (int64_t x = 0; x < pitch; x += kRegisterLanes)
        transform(from + std::min(x, pitch - kRegisterLanes), pitch, to + std::min(x, pitch - kRegisterLanes));
    }
    const int64_t point = grouped(work->outputs) * work->inputs * 3;
    for (int k = 0; k < 6; ++k) {
      planar_row<1>(*work, coefficients + k * pitch, weights + k * point, nullptr, products + k * columns, 6 * columns);
    }
    for (int o = 0; o < work->outputs; ++o) {
      for (int64_t x = 0; x < columns; x += kRegisterLanes) {
        Register m[6], y[4];
        for (int k = 0; k < 6; ++k) m[k] = load_register(products + (6 * o + k) * columns + x);
        transform_output(m, Register{} + work->bias[o], y);
        for (int r = 0; r < kBandRows; ++r) store_register(work->to + (kBandRows * o + r) * columns + x, y[r]);
      }
    }
  }

  ZDCE_INLINE static void transform(const float* from, int64_t pitch, float* to) {
    Register d[6], v[6];
    for (int r = 0; r < 6; ++r) d[r] = load_register(from + r * pitch);
    transform_input<0>(d, v[kFirst[0]], v[kSecond[0]]);
    transform_input<1>(d, v[kFirst[1]], v[kSecond[1]]);
    transform_input<2>(d, v[kFirst[2]], v[kSecond[2]]);
    for (int k = 0; k < 6; ++k) store_register(to + k * pitch, v[k]);
  }
};

using Colors = FirstBand;

// The engine's own method, except that outputs are stored as they are, with a half block folded. outputs: (blocks and
// half ones, 4, columns, 16).
struct TwoAxes {
  ZDCE_INLINE static void run(const Band<float>* band, float* outputs) {
    const int columns = band->right - band->left;
    const auto use = [&](int x, const float* products) ZDCE_INLINE_LAMBDA {
      for (int o = 0; o < band->layer->lanes() / kBlock; ++o) {
        float* const to = outputs + (int64_t{kBandRows} * o * columns + x - band->left) * kBlock;
        const auto put = [&](int r, int column, int part, Register v) ZDCE_INLINE_LAMBDA {
          store_register(to + (r * columns + column) * kBlock + part * kRegisterLanes, v);
        };
        output_tile(products + o * kStripProducts, band->layer->bias + o * kBlock, put);
      }
    };
    WinogradBand::each_tile(*band, use);
  }
};

// Zeros, aligned to a cache line.
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

// weights: (points, groups of outputs, inputs, taps, filters of a group); value(filter, k, tap) gives tap `tap` of
// point k for a filter (3, 3).
template <class F>
void pack_planar(const RateProblem& work, int points, int taps, float* weights, const F& value) {
  const int filters = kFilters;
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

inline double planar(const RateProblem& work, bool transformed, int64_t rounds) {
  const RateProblem* const problem = &work;
  Floats packed(grouped(work.outputs) * work.inputs * 18);
  const float* const weights = packed.get();
  if (!transformed) {
    pack_planar(work, 1, 9, packed.get(), [](const float* filter, int, int tap) { return filter[tap]; });
    return seconds_a_round(rounds, [&] { Direct::run(problem, weights); });
  }
  pack_planar(work, 6, 3, packed.get(), [](const float* filter, int k, int x) {
    double u[6];
    transform_filter({filter[x], filter[3 + x], filter[6 + x]}, u);
    return u[k];
  });
  Floats coefficients(int64_t{6} * work.inputs * work.pitch()), products(int64_t{6} * work.outputs * work.columns);
  return seconds_a_round(rounds, [&] { OneAxis::run(problem, weights, coefficients.get(), products.get()); });
}

// A layer as in the engine, with its weights in `packed`; with `colors` it reads the picture, otherwise other layers.
inline Layer engine_layer(const RateProblem& work, bool colors, Floats& packed, Floats& bias) {
  Layer layer;
  const int rest = work.outputs % kBlock;
  layer.outputs = work.outputs;
  layer.blocks = blocks_of(work.outputs);
  layer.half = !colors && rest > 0 && rest <= 8;
  layer.blocks -= layer.half;
  // Fewer inputs than a block are multiplied without padding, but pairs of channels fill whole blocks.
  layer.inputs = work.inputs < kBlock && !layer.half ? work.inputs : blocks_of(work.inputs) * kBlock;
  std::vector<int> places(work.inputs);
  for (int c = 0; c < work.inputs; ++c) places[c] = c;
  if (colors) {
    pack_first(layer, work.filter, packed.get());
  } else {
    pack_winograd(layer, places, work.filter, packed.get());
  }
  for (int o = 0; o < work.outputs; ++o) bias.get()[lane_of(layer, o)] = work.bias[o];
  layer.weights = packed.get(), layer.bias = bias.get();
  return layer;
}

inline double in_blocks(const RateProblem& work, bool colors, int64_t rounds) {
  const int in = blocks_of(work.inputs), out = blocks_of(work.outputs);
  const int64_t pitch = work.pitch(), columns = work.columns;
  Floats packed(int64_t{kPoints} * in * out * kBlock * kBlock), bias(out * kBlock);
  const Layer layer = engine_layer(work, colors, packed, bias);
  // Column 0 is the one before the first.
  Floats inputs(in * 6 * pitch * kBlock), outputs(out * kBandRows * columns * kBlock);
  Floats coefficients(12 * in * kStripTiles * kBlock), products(int64_t{kPoints} * kStripTiles * out * kBlock);
  const float *rows[kMaxInputBlocks][6], *planes[3][6];
  float* results[kMaxInputBlocks][kBandRows];
  for (int c = 0; c < work.inputs; ++c) {
    float* const to = inputs.get() + c / kBlock * 6 * pitch * kBlock + c % kBlock;
    for (int64_t i = 0; i < 6 * pitch; ++i) to[i * kBlock] = work.from[c * 6 * pitch + i];
  }
  for (int r = 0; r < 6; ++r) {
    for (int i = 0; i < in; ++i) rows[i][r] = inputs.get() + (i * 6 + r) * pitch * kBlock;
    for (int c = 0; c < 3; ++c) planes[c][r] = work.from + (c % work.inputs * 6 + r) * pitch;
  }
  const auto row = [&](int o, int r) { return outputs.get() + (int64_t{kBandRows} * o + r) * columns * kBlock; };
  for (int o = 0; o < out; ++o) {
    for (int r = 0; r < kBandRows; ++r) results[o][r] = row(o, r) - kBlock;
  }
  const Band<float> band{&layer,         1,      work.columns + 1, planes, rows, results, coefficients.get(),
                         products.get(), nullptr};
  const Band<float>* const at = &band;
  const double seconds = colors ? seconds_a_round(rounds, [&] { Colors::run(at); })
                                : seconds_a_round(rounds, [&] { TwoAxes::run(at, outputs.get()); });
  for (int o = 0; o < work.outputs; ++o) {
    const int lane = lane_of(layer, o);
    for (int64_t i = 0; i < kBandRows * columns; ++i) {
      const float* const from = row(lane / kBlock, 0) + i * kBlock + lane % kBlock;
      work.to[o * kBandRows * columns + i] = o < layer.blocks * kBlock ? *from : from[0] + from[1];
    }
  }
  return seconds;
}

// Returns the seconds per run, averaged over `rounds` runs, without packing.
inline double run(const RateProblem& work, RateMethod method, int64_t rounds) {
  if (method == RateMethod::kTwoAxes || method == RateMethod::kColors) {
    return in_blocks(work, method == RateMethod::kColors, rounds);
  }
  return planar(work, method == RateMethod::kOneAxis, rounds);
}

}  // namespace zdce::ZDCE_TARGET::convolution_rate
