// A network as the engine runs it: its convolutions, what each one reads, and their packed weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "halves.h"
#include "limits.h"

namespace zdce {

// Feature maps are rows of pixels, 16 channels of a pixel in one 64-byte block.
constexpr int kBlock = 16;

// Rows of a layer that are computed together.
constexpr int kBandRows = 4;

// Of a Winograd tile, 6 x 6 for 4 x 4 outputs.
constexpr int kPoints = 36;

// Interpolation at 0, a, -a, b, -b and infinity. With 3/4 and 3/2 all constants are exact and the error in float32 is a
// third of that with the usual 1 and 2.
constexpr float kA = 0.75f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB;

// The matrix unit's operands, 16 rows of 64 bytes.
constexpr int kMatrix = 512;

// Steps of 32 values over a row of three neighbouring pixels of so many blocks, which lie side by side. The last step
// may reach half into a fourth pixel, for which there are no weights.
inline int row_steps(int blocks) { return (3 * blocks + 1) / 2; }

// Values of a pixel of the picture in bfloat16: what rounding left of red and green, the colours, what it left of blue,
// the colours again, and a zero. Three pixels, and what rounding left of a fourth's red and green, are one step of 32
// values.
constexpr int kColorValues = 10;

// Steps of a 1x1 filter over `blocks` blocks of inputs: 32 channels each.
inline int pointwise_steps(int blocks) { return (blocks + 1) / 2; }

// More than any published network's layers read or write; it bounds the tables of rows.
constexpr int kMaxInputBlocks = 64;

inline int blocks_of(int channels) { return (channels + kBlock - 1) / kBlock; }

struct Layer {
  std::vector<int> sources;  // numbers of the layers read, from 0; empty for the first one, which reads the image
  std::vector<int> widths;   // and the blocks of channels of each, or of all where these lie side by side
  int outputs = 0;           // channels
  int inputs = 0;            // channels in whole blocks; 3 for the first layer
  int blocks = 0;            // whole blocks of output channels
  bool half = false;         // and one of 8 channels behind them
  const float* weights = nullptr;
  const float* bias = nullptr;
  // In bfloat16 mode instead of weights: (blocks, row steps of each width, 3 rows, 16, 16, 2), separable (blocks,
  // steps, 16, 16, 2). The first layer has one step.
  const BFloat16* matrices = nullptr;
  const float* depthwise = nullptr;  // of a separable layer: (9, inputs), then their bias (inputs)

  // Whether its sources' channels lie side by side, which saves steps where widths are odd.
  bool joint() const { return sources.size() > 1 && widths.size() == 1; }

  int lanes() const { return (blocks + half) * kBlock; }

  // Of the 3x3 filters of one block of outputs.
  int matrices_a_block() const {
    int steps = widths.empty() ? 1 : 0;
    for (const int width : widths) steps += row_steps(width);
    return 3 * steps;
  }
};

struct Network {
  std::vector<Layer> layers;
  bool separable = false;
  // Products and weights in bfloat16, but in the first layer as exact as in float32; feature maps too where layers are
  // not separable.
  bool bfloat16 = false;
  int iterations = 0;
  int maps = 0;  // channels of the last layer: 3 * iterations, or 3 for all iterations

  bool bfloat16_features() const { return bfloat16 && !separable; }
};

// Floats of a layer's packed weights, in this order: depthwise filters and bias, weights, bias.
struct PackedSizes {
  int64_t depthwise, weights, bias;
  int64_t total() const { return depthwise + weights + bias; }
};

inline PackedSizes packed_sizes(const Network& network, const Layer& layer) {
  const bool first = layer.sources.empty();
  const int64_t outputs = layer.blocks * kBlock + layer.half * 8;
  const int64_t depthwise = network.separable ? 10 * blocks_of(layer.inputs) * kBlock : 0;
  if (network.bfloat16_features() || (network.bfloat16 && !first)) {
    const int steps = network.separable ? pointwise_steps(blocks_of(layer.inputs)) : layer.matrices_a_block();
    return {depthwise, int64_t{layer.blocks} * steps * kMatrix / 2, layer.lanes()};
  }
  const int points = network.separable ? 1 : first ? 9 : kPoints;
  // A 16-float granule keeps every part on a cache line.
  const int64_t inputs = network.separable ? blocks_of(layer.inputs) * kBlock : layer.inputs;
  return {depthwise, points * inputs * outputs, layer.lanes()};
}

// plan: separable, bfloat16, iterations, layers, then for each layer its outputs, the number of its sources and those;
// source 0 is the image, n the n-th layer. Throws std::runtime_error where the numbers make no network that the engine
// can run.
inline Network read_plan(const int64_t* plan, int64_t length) {
  int64_t at = 0;
  const auto next = [&](int64_t low, int64_t high, const char* what) {
    if (at >= length || plan[at] < low || plan[at] > high) {
      throw std::runtime_error("zdce: plan must hold " + std::string(what) + " from " + std::to_string(low) + " to " +
                               std::to_string(high) + " at " + std::to_string(at));
    }
    return static_cast<int>(plan[at++]);
  };
  Network network;
  network.separable = next(0, 1, "separable") == 1;
  network.bfloat16 = next(0, 1, "bfloat16") == 1;
  network.iterations = next(1, kMaxIterations, "iterations");
  const int layers = next(2, kMaxLayers, "layers");
  for (int l = 0; l < layers; ++l) {
    Layer layer;
    layer.outputs = next(1, kMaxInputBlocks * kBlock, "outputs");
    const int sources = next(1, kMaxLayers, "sources");
    for (int s = 0; s < sources; ++s) {
      const int source = next(l == 0 ? 0 : 1, l, "a source");
      if (l > 0) {
        layer.sources.push_back(source - 1);
        layer.widths.push_back(blocks_of(network.layers[source - 1].outputs));
        layer.inputs += layer.widths.back() * kBlock;
      }
    }
    if (l == 0) layer.inputs = 3;
    int apart = 0;
    for (const int width : layer.widths) apart += row_steps(width);
    if (network.bfloat16_features() && row_steps(layer.inputs / kBlock) < apart) layer.widths = {layer.inputs / kBlock};
    if (layer.inputs > kMaxInputBlocks * kBlock) {
      throw std::runtime_error("zdce: plan must hold layers of at most " + std::to_string(kMaxInputBlocks * kBlock) +
                               " input channels, got " + std::to_string(layer.inputs));
    }
    layer.blocks = blocks_of(layer.outputs);
    // Only the last layer's half blocks are unfolded again.
    const int rest = layer.outputs % kBlock;
    layer.half = l == layers - 1 && !network.bfloat16 && rest > 0 && rest <= 8;
    layer.blocks -= layer.half;
    network.layers.push_back(layer);
  }
  network.maps = network.layers.back().outputs;
  if (at != length) throw std::runtime_error("zdce: plan must end with the last layer");
  if (network.maps != 3 && network.maps != 3 * network.iterations) {
    throw std::runtime_error("zdce: plan must end with 3 outputs or 3 an iteration");
  }
  return network;
}

inline int64_t packed_floats(const Network& network) {
  int64_t floats = 0;
  for (const Layer& layer : network.layers) floats += packed_sizes(network, layer).total();
  return floats;
}

// Points the layers into `packed`.
inline void place_weights(Network& network, const float* packed) {
  for (Layer& layer : network.layers) {
    const PackedSizes sizes = packed_sizes(network, layer);
    layer.depthwise = packed;
    layer.weights = packed + sizes.depthwise;
    layer.matrices = reinterpret_cast<const BFloat16*>(layer.weights);
    layer.bias = layer.weights + sizes.weights;
    packed += sizes.total();
  }
}

}  // namespace zdce
