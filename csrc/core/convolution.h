// Trained convolutions: 3x3 layers forward and back, on tensors of any layout.
#pragma once

#include <vector>

#include "network.h"
#include "planes.h"
#include "tiles.h"
#include "workspace.h"

namespace zdce {

// Tensors that are concatenated: (B, C_i, H, W) each.
using Features = std::vector<Planes>;

// A region of an image is at most this wide. Its rows have a column before and one behind it, and room for a whole
// transposition.
constexpr int kRegionColumns = 256;
constexpr int kRegionPitch = kRegionColumns + 20;

// Regions, in whose rows no value depends on the others: 64 rows share their sums of gradients and reread 2 of 64 rows.
constexpr int kRegionRows = 64;

int64_t channels_of(const Features& tensors);

// Blocks of 16 channels when each tensor begins with a block.
int blocks_in(const Features& tensors);

struct ConvolutionWork {
  const Features& sources;  // (B, C_i, H, W) each
  const Layer& layer;       // with its weights in place
  const Features& results;  // (B, O, H, W), written
  bool rectified;
  Tiling tiling;
};

// Sums of gradients of consecutive regions: a region's float32 sums go into doubles.
struct GradientSums {
  std::vector<double> weight, bias;  // (O, I, 3, 3), (O,)
};

struct ConvolutionGradientWork {
  const Features& sources;          // (B, C_i, H, W) each
  const Features& slopes;           // one: the gradient of the output, (B, O, H, W)
  const Planes* output;             // where the convolution was rectified: as the gradient
  const Layer& turned;              // the way back, with its weights in place
  const Features& grad_sources;     // those that are wanted, written
  const std::vector<int>& places;   // of the inputs' channels among those in blocks
  bool parameters;                  // whether gradients of weight and bias are wanted
  std::vector<GradientSums>& sums;  // one for each of as many runs of regions, written
  Tiling tiling;
};

// Adds a region's sums at the 36 points to those of the nine taps. sums: (36, output blocks * 16, row), zeroed; bias:
// (output blocks * 16,), zeroed; row: input blocks * 16.
void add_region(const std::vector<int>& places, int outputs, int row, float* sums, float* bias, GradientSums& to);

// The same of the matrix unit's sums. sums: (output blocks, input blocks, 3, 3, 16 outputs, 16 inputs), zeroed; bias:
// (output blocks, 16, 16 times the same), zeroed.
void add_matrix_region(const std::vector<int>& places, int outputs, int input_blocks, float* sums, float* bias,
                       GradientSums& to);

// How values are multiplied: as float; or, where the set of kernels has a matrix unit and the processor too, rounded to
// bfloat16, with sums in float.
enum class Products { kFloat, kBFloat16 };

// sources: (B, C_i, H, W) each; weight: (O, sum of C_i, 3, 3); bias: (O,); result: (B, O, H, W), written. Feature maps
// are float or bfloat16 in memory, each by itself, parameters float.
void convolution(const Features& sources, const float* weight, const float* bias, bool rectified, Products products,
                 const Planes& result);

// grad: (B, O, H, W), of the output; output: the same shape and type, given where the convolution was rectified;
// sources: (B, C_i, H, W) each; weight: (O, sum of C_i, 3, 3). Written: grad_sources, one for each source, as it is or
// without data where it is not wanted; grad_weight, as weight, and grad_bias: (O,), both or neither null.
void convolution_backward(const Planes& grad, const Features& sources, const float* weight, const Planes* output,
                          Products products, const Features& grad_sources, float* grad_weight, float* grad_bias);

}  // namespace zdce
