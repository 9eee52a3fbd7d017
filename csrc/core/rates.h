// The methods of 3x3 convolution whose speed zdce bench layers measures.
#pragma once

#include <cstdint>

namespace zdce {

// Numbered as in bench/layers.py. kColors is the method of the engine's first layer, with a ReLU.
enum class RateMethod : int64_t { kDirect, kOneAxis, kTwoAxes, kColors };

// Four rows from six. columns: a multiple of kRateColumnStep; channels: at most kRateMostChannels, 3 inputs of colours.
struct RateProblem {
  int inputs, outputs, columns;
  const float* from;    // (inputs, 6, columns + 2)
  const float* filter;  // (outputs, inputs, 3, 3)
  const float* bias;    // (outputs,)
  float* to;            // (outputs, 4, columns), written

  int64_t pitch() const { return columns + 2; }
};

constexpr int kRateColumnStep = 48;
constexpr int kRateMostChannels = 128;

}  // namespace zdce
