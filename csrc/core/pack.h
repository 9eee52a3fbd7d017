// Weights in the order that the kernels read them, the 3x3 filters of all but the first layer transformed to 36 points.
#pragma once

#include "halves.h"
#include "network.h"

namespace zdce {

// G g: the filter's three taps at the six points, in double.
inline void transform_filter(const double (&&g)[3], double (&u)[6]) {
  const double a = kA, b = kB, scale_a = 2 * a * a * (a * a - b * b), scale_b = 2 * b * b * (b * b - a * a);
  u[0] = g[0] / (a * a * b * b);
  u[1] = (g[0] + a * g[1] + a * a * g[2]) / scale_a;
  u[2] = (g[0] - a * g[1] + a * a * g[2]) / scale_a;
  u[3] = (g[0] + b * g[1] + b * b * g[2]) / scale_b;
  u[4] = (g[0] - b * g[1] + b * b * g[2]) / scale_b;
  u[5] = g[2];
}

// G^T u: three taps of the sums at the six points.
inline void transform_taps(const double (&&u)[6], double (&g)[3]) {
  const double a = kA, b = kB, scale_a = 2 * a * a * (a * a - b * b), scale_b = 2 * b * b * (b * b - a * a);
  const double sum_a = (u[1] + u[2]) / scale_a, difference_a = (u[1] - u[2]) / scale_a;
  const double sum_b = (u[3] + u[4]) / scale_b, difference_b = (u[3] - u[4]) / scale_b;
  g[0] = u[0] / (a * a * b * b) + (sum_a + sum_b);
  g[1] = a * difference_a + b * difference_b;
  g[2] = a * a * sum_a + (b * b * sum_b + u[5]);
}

// Channels of each source of a layer, unpadded.
inline std::vector<int> source_channels(const Network& network, const Layer& layer) {
  std::vector<int> channels;
  for (const int source : layer.sources) channels.push_back(network.layers[source].outputs);
  if (channels.empty()) channels.push_back(3);
  return channels;
}

// Where each channel of concatenated sources lies when each source begins with a block. channels: of each source.
inline std::vector<int> places_in_blocks(const std::vector<int>& channels) {
  std::vector<int> places;
  int base = 0;
  for (const int count : channels) {
    for (int c = 0; c < count; ++c) places.push_back(base + c);
    base += blocks_of(count) * kBlock;
  }
  return places;
}

// Of a layer's input channels, in its parameters' order.
inline std::vector<int> padded_places(const Network& network, const Layer& layer) {
  return places_in_blocks(source_channels(network, layer));
}

// Where an output lies among a layer's lanes: those of the half block have two lanes each, whose sum they are.
inline int lane_of(const Layer& layer, int output) {
  const int whole = layer.blocks * kBlock;
  return output < whole ? output : whole + 2 * (output - whole);
}

inline int64_t parameter_floats(const Network& network) {
  int64_t floats = 0;
  for (const Layer& layer : network.layers) {
    const int64_t inputs = static_cast<int64_t>(padded_places(network, layer).size());
    floats += network.separable ? 10 * inputs + (inputs + 1) * layer.outputs : (9 * inputs + 1) * layer.outputs;
  }
  return floats;
}

// Where the weight from `input` to `output` lies within one point's weights.
inline int64_t place_of(const Layer& layer, int input, int output) {
  if (output < layer.blocks * kBlock) {
    return (static_cast<int64_t>(output / kBlock) * layer.inputs + input) * kBlock + output % kBlock;
  }
  const int64_t pair = static_cast<int64_t>(layer.blocks) * layer.inputs * kBlock + input / 2 * kBlock;
  return pair + (output - layer.blocks * kBlock) * 2 + input % 2;
}

// filter: (3, 3); to: this weight at the first point, the next points `stride` floats on.
inline void pack_transformed(const float* filter, float* to, int64_t stride) {
  double down[3][6];
  for (int x = 0; x < 3; ++x) transform_filter({filter[x], filter[3 + x], filter[6 + x]}, down[x]);
  for (int y = 0; y < 6; ++y) {
    double across[6];
    transform_filter({down[0][y], down[1][y], down[2][y]}, across);
    for (int x = 0; x < 6; ++x) to[(6 * y + x) * stride] = static_cast<float>(across[x]);
  }
}

inline BFloat16 rounded(float value) { return Narrow<BFloat16>::from(value); }

// filters: (inputs, 3, 3), those of output o; channels: of each source; matrices: (blocks, row steps of each width, 3
// rows, 16 pairs, 16 outputs, 2), zeroed. Value v of a row of three pixels is in step v / 32.
inline void pack_output_matrices(const Layer& layer, const std::vector<int>& channels, int o, const float* filters,
                                 BFloat16* matrices) {
  BFloat16* from = matrices + static_cast<int64_t>(o / kBlock) * layer.matrices_a_block() * kMatrix;
  size_t width = 0;
  int first = 0;  // of the source's values in its pixel
  for (const int count : channels) {
    const int pixel = layer.widths[width] * kBlock;
    for (int c = 0; c < count; ++c) {
      for (int tap = 0; tap < 9; ++tap) {
        const int v = tap % 3 * pixel + first + c;
        BFloat16* const matrix = from + (v / 32 * 3 + tap / 3) * kMatrix;
        matrix[v % 32 / 2 * 32 + o % kBlock * 2 + v % 2] = rounded(*filters++);
      }
    }
    first += blocks_of(count) * kBlock;
    if (first == pixel) from += 3 * row_steps(layer.widths[width++]) * kMatrix, first = 0;
  }
}

// The first layer's. filters: (outputs, 3, 3, 3); matrices: (blocks, 3 rows, 16 pairs, 16 outputs, 2), zeroed. The
// colours and what rounding them left meet the rounded weights, the colours again what rounding the weights left:
// together almost as exact as float32.
inline void pack_color_matrices(const Layer& layer, const float* filters, BFloat16* matrices) {
  for (int o = 0; o < layer.outputs; ++o) {
    BFloat16* const block = matrices + static_cast<int64_t>(o / kBlock) * layer.matrices_a_block() * kMatrix;
    for (int c = 0; c < 3; ++c) {
      for (int tap = 0; tap < 9; ++tap, ++filters) {
        const BFloat16 weight = rounded(*filters), rest = rounded(*filters - widen<float>(weight));
        for (const auto& [place, value] : {std::pair{c < 2 ? c : 5, weight}, {2 + c, weight}, {6 + c, rest}}) {
          const int v = tap % 3 * kColorValues + place;
          block[tap / 3 * kMatrix + v / 2 * 32 + o % kBlock * 2 + v % 2] = value;
        }
      }
    }
  }
}

// filters: (outputs, inputs, 3, 3).
inline void pack_matrices(const Layer& layer, const std::vector<int>& channels, const float* filters,
                          BFloat16* matrices) {
  int64_t inputs = 0;
  for (const int c : channels) inputs += c;
  for (int o = 0; o < layer.outputs; ++o) pack_output_matrices(layer, channels, o, filters + o * inputs * 9, matrices);
}

// filters: (outputs, inputs); matrices: (blocks, steps, 16 pairs, 16 outputs, 2), zeroed.
inline void pack_pointwise_matrices(const Layer& layer, const std::vector<int>& places, const float* filters,
                                    BFloat16* matrices) {
  const int steps = pointwise_steps(blocks_of(layer.inputs));
  for (int o = 0; o < layer.outputs; ++o) {
    BFloat16* const block = matrices + static_cast<int64_t>(o / kBlock) * steps * kMatrix;
    for (const int place : places) {
      block[(place / 2 * kBlock + o % kBlock) * 2 + place % 2] = rounded(*filters++);
    }
  }
}

// filters: (outputs, inputs, 3, 3); weights: (blocks, 27, 16), zeroed.
inline void pack_first(const Layer& layer, const float* filters, float* weights) {
  for (int o = 0; o < layer.outputs; ++o) {
    for (int tap = 0; tap < 27; ++tap) weights[(o / kBlock * 27 + tap) * kBlock + o % kBlock] = *filters++;
  }
}

// filters: (outputs, inputs, 3, 3); weights: at each of the 36 points as multiply_rows reads them, zeroed.
inline void pack_winograd(const Layer& layer, const std::vector<int>& places, const float* filters, float* weights) {
  const int64_t per_point = static_cast<int64_t>(layer.inputs) * (layer.blocks * kBlock + layer.half * 8);
  for (int o = 0; o < layer.outputs; ++o) {
    for (const int place : places) {
      pack_transformed(filters, weights + place_of(layer, place, o), per_point);
      filters += 9;
    }
  }
}

// filters: (inputs, 3, 3), then their bias (inputs,); depthwise: (10, inputs in whole blocks), zeroed.
inline void pack_depthwise(const std::vector<int>& places, const float* filters, int64_t row, float* depthwise) {
  for (const int place : places) {
    for (int tap = 0; tap < 9; ++tap) depthwise[tap * row + place] = *filters++;
  }
  for (const int place : places) depthwise[9 * row + place] = *filters++;
}

// filters: (outputs, inputs); weights: as multiply_rows reads them, zeroed.
inline void pack_pointwise(const Layer& layer, const std::vector<int>& places, const float* filters, float* weights) {
  for (int o = 0; o < layer.outputs; ++o) {
    for (const int place : places) weights[place_of(layer, place, o)] = *filters++;
  }
}

// parameters: each layer's filters and bias, a separable one's depthwise ones first; packed: packed_floats(network),
// written.
inline void pack(const Network& network, const float* parameters, float* packed) {
  std::fill_n(packed, packed_floats(network), 0.0f);
  for (const Layer& layer : network.layers) {
    const PackedSizes sizes = packed_sizes(network, layer);
    float *const weights = packed + sizes.depthwise, *const bias = weights + sizes.weights;
    const std::vector<int> places = padded_places(network, layer);
    const int64_t inputs = static_cast<int64_t>(places.size());
    if (network.separable) {
      pack_depthwise(places, parameters, sizes.depthwise / 10, packed);
      parameters += 10 * inputs;
      if (network.bfloat16 && !layer.sources.empty()) {
        pack_pointwise_matrices(layer, places, parameters, reinterpret_cast<BFloat16*>(weights));
      } else {
        pack_pointwise(layer, places, parameters, weights);
      }
    } else if (layer.sources.empty() && network.bfloat16) {
      pack_color_matrices(layer, parameters, reinterpret_cast<BFloat16*>(weights));
    } else if (layer.sources.empty()) {
      pack_first(layer, parameters, weights);
    } else if (network.bfloat16) {
      pack_matrices(layer, source_channels(network, layer), parameters, reinterpret_cast<BFloat16*>(weights));
    } else {
      pack_winograd(layer, places, parameters, weights);
    }
    parameters += layer.outputs * inputs * (network.separable ? 1 : 9);
    for (int o = 0; o < layer.outputs; ++o) bias[lane_of(layer, o)] = *parameters++;
    packed += sizes.total();
  }
}

}  // namespace zdce
