// Weights in the order that the kernels read them, the 3x3 filters of all but the first layer transformed to 36 points.
#pragma once

#include "network.h"

namespace zdce::engine {

// Channels of each source of a layer, unpadded.
inline std::vector<int> source_channels(const Network& network, const Layer& layer) {
  std::vector<int> channels;
  for (const int source : layer.sources) channels.push_back(network.layers[source].outputs);
  if (channels.empty()) channels.push_back(3);
  return channels;
}

// Where each input channel of a layer, in its parameters' order, lies among the padded ones.
inline std::vector<int> padded_places(const Network& network, const Layer& layer) {
  std::vector<int> places;
  int base = 0;
  for (const int channels : source_channels(network, layer)) {
    for (int c = 0; c < channels; ++c) places.push_back(base + c);
    base += blocks_of(channels) * kBlock;
  }
  return places;
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

// parameters: each layer's filters and bias, a separable one's depthwise ones first; packed: zeroed, then written.
inline void pack(const Network& network, const float* parameters, float* packed) {
  for (const Layer& layer : network.layers) {
    const PackedSizes sizes = packed_sizes(network, layer);
    std::memset(packed, 0, sizes.total() * sizeof(float));
    float *const depthwise = packed, *const weights = packed + sizes.depthwise, *const bias = weights + sizes.weights;
    const std::vector<int> places = padded_places(network, layer);
    const int inputs = static_cast<int>(places.size());
    const int64_t per_point = static_cast<int64_t>(layer.inputs) * (layer.blocks * kBlock + layer.half * 8);
    if (network.separable) {
      const int64_t row = sizes.depthwise / 10;
      for (int i = 0; i < inputs; ++i) {
        for (int tap = 0; tap < 9; ++tap) depthwise[tap * row + places[i]] = parameters[i * 9 + tap];
        depthwise[9 * row + places[i]] = parameters[9 * inputs + i];
      }
      parameters += 10 * inputs;
    }
    const int taps = network.separable ? 1 : 9;
    for (int o = 0; o < layer.outputs; ++o) {
      for (int i = 0; i < inputs; ++i) {
        const float* const filter = parameters + (static_cast<int64_t>(o) * inputs + i) * taps;
        if (network.separable) {
          weights[place_of(layer, places[i], o)] = filter[0];
        } else if (layer.sources.empty()) {
          for (int tap = 0; tap < 9; ++tap) weights[(o / kBlock * 27 + i * 9 + tap) * kBlock + o % kBlock] = filter[tap];
        } else {
          pack_transformed(filter, weights + place_of(layer, places[i], o), per_point);
        }
      }
    }
    parameters += static_cast<int64_t>(layer.outputs) * inputs * taps;
    for (int o = 0; o < layer.outputs; ++o) {
      const int whole = layer.blocks * kBlock;
      bias[o < whole ? o : whole + 2 * (o - whole)] = parameters[o];
    }
    parameters += layer.outputs;
    packed += sizes.total();
  }
}

}  // namespace zdce::engine
