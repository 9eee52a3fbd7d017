// convolution on the CPU: 3x3 convolutions by Winograd's algorithm, forward and back.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "engine/gradients.h"
#include "engine/pack.h"
#include "engine/workspace.h"
#include "isa.h"
#include "planes.h"
#include "tiles.h"

namespace zdce {
namespace {

using engine::blocks_of, engine::kMaxTiles, engine::kPitch, engine::kPoints, engine::Offsets, engine::with_tiles;
constexpr int kBlockChannels = engine::kBlock;

// Regions, in whose rows no value depends on the others: 64 rows share their sums of gradients and reread 2 of 64 rows.
constexpr int kRegionRows = 64;

// The regions' gradients of the weights go into this many sums at most, each of consecutive regions.
constexpr int64_t kSums = 64;

using Tensors = std::vector<Planes>;

void check(bool holds, const std::string& message) {
  if (!holds) throw std::runtime_error("zdce: " + message);
}

// tensor: (B, C, H, W), float32 or bfloat16, any strides.
Planes features(const Tensor& tensor, const char* name) {
  const Planes t = planes(tensor, name);
  check(t.dtype == ScalarType::Float || t.dtype == ScalarType::BFloat16,
        std::string(name) + " must be float32 or bfloat16");
  return t;
}

Tensors features(const std::vector<Tensor>& tensors, const char* name) {
  check(!tensors.empty(), std::string(name) + " must not be empty");
  Tensors all;
  for (const Tensor& tensor : tensors) {
    all.push_back(features(tensor, name));
    check_shape(all.back(), name, all[0].batch, all.back().channels, all[0].height, all[0].width);
  }
  return all;
}

int64_t channels_of(const Tensors& tensors) {
  int64_t channels = 0;
  for (const Planes& t : tensors) channels += t.channels;
  return channels;
}

int blocks_in(const Tensors& tensors) {
  int blocks = 0;
  for (const Planes& t : tensors) blocks += blocks_of(static_cast<int>(t.channels));
  return blocks;
}

// Where each channel of concatenated tensors lies when each of them begins with a block.
std::vector<int> places_of(const Tensors& tensors) {
  std::vector<int> places;
  int base = 0;
  for (const Planes& t : tensors) {
    for (int c = 0; c < t.channels; ++c) places.push_back(base + c);
    base += blocks_of(static_cast<int>(t.channels)) * kBlockChannels;
  }
  return places;
}

// A layer and its transformed weights.
class Packed {
 public:
  // Of the layer's filters; weight: (outputs, inputs, 3, 3), bias: (outputs,). A half block of outputs can only be
  // written to planes.
  static Packed forward(const float* weight, const float* bias, const Tensors& sources, int outputs, bool planar) {
    const std::vector<int> places = places_of(sources);
    const int inputs =
        sources.size() == 1 ? static_cast<int>(sources[0].channels) : blocks_in(sources) * kBlockChannels;
    const int rest = outputs % kBlockChannels;
    Packed packed(inputs, outputs, planar && inputs % kBlockChannels == 0 && rest > 0 && rest <= 8);
    for (int o = 0; o < outputs; ++o) {
      for (const int place : places) packed.put(weight, place, o), weight += 9;
    }
    const int whole = packed.layer_.blocks * kBlockChannels;
    for (int o = 0; o < outputs; ++o) packed.bias()[o < whole ? o : whole + 2 * (o - whole)] = bias[o];
    return packed;
  }

  // Of the way back, from `outputs` channels to those of the sources that are wanted: the filters turned by half a
  // turn.
  static Packed backward(const float* weight, const Tensors& sources, const std::vector<bool>& wanted, int outputs) {
    std::vector<int> places;
    int base = 0;
    for (size_t s = 0; s < sources.size(); ++s) {
      for (int c = 0; c < sources[s].channels; ++c) places.push_back(wanted[s] ? base + c : -1);
      if (wanted[s]) base += blocks_of(static_cast<int>(sources[s].channels)) * kBlockChannels;
    }
    Packed packed(outputs, base, false);
    for (int o = 0; o < outputs; ++o) {
      for (const int place : places) {
        float turned[9];
        std::reverse_copy(weight, weight + 9, turned);
        if (place >= 0) packed.put(turned, o, place);
        weight += 9;
      }
    }
    return packed;
  }

  const engine::Layer& layer() const { return layer_; }

 private:
  Packed(int inputs, int outputs, bool half) {
    layer_.inputs = inputs, layer_.outputs = outputs, layer_.half = half;
    layer_.blocks = blocks_of(outputs) - half;
    per_point_ = static_cast<int64_t>(inputs) * (layer_.blocks * kBlockChannels + half * 8);
    Offsets offsets;
    offsets.take(kPoints * per_point_ + layer_.lanes());
    layer_.weights = memory_.take(offsets);
    layer_.bias = layer_.weights + kPoints * per_point_;
  }

  float* bias() { return const_cast<float*>(layer_.bias); }

  void put(const float* filter, int input, int output) {
    float* const to = const_cast<float*>(layer_.weights) + engine::place_of(layer_, input, output);
    engine::pack_transformed(filter, to, per_point_);
  }

  engine::Layer layer_;
  engine::Workspace memory_;
  int64_t per_point_ = 0;
};

// As many outputs as leave a register for the values and one for the slope.
void sum_gradients(Isa isa, const engine::GradientBand* band) {
  switch (isa) {
    case Isa::kAvx512:
      return run_avx512<engine::SumGradients<64, 16>>(band);
    case Isa::kAvx2:
      return run_avx2<engine::SumGradients<32, 4>>(band);
    case Isa::kDefault:
      return run_default<engine::SumGradients<16, 2>>(band);
  }
}

template <int kBytes, int>
struct Read {
  ZDCE_INLINE static void run(const Planes* from, const Planes* output, const engine::RowPlace* at, float* to) {
    engine::ReadRow<kBytes>::run(from, output, at, to);
  }
};

// The last eight rows of a region of concatenated tensors, in blocks: (8, blocks, kPitch, 16).
class Ring {
 public:
  // output: null, or the layer's output, after whose ReLU the only tensor is a gradient of the same type.
  Ring(Isa isa, const Tensors& tensors, const Planes* output)
      : isa_(isa), tensors_(tensors), output_(output), blocks_(blocks_in(tensors)) {}

  int blocks() const { return blocks_; }
  int64_t floats() const { return int64_t{8} * blocks_ * kRow; }

  void begin(const Tile& tile, float* memory) {
    tile_ = tile, memory_ = memory, next_ = tile.y - 1;
    rows_.resize(blocks_);
  }

  // Rows y - 1 to y + 4 of each block.
  const float* const (*rows(int64_t y))[6] {
    const int columns = (tile_.n + 3) / 4 * 4;
    for (; next_ <= y + 4; ++next_) {
      const engine::RowPlace at{tile_.b, next_, tile_.x, columns};
      float* to = row(next_);
      for (const Planes& t : tensors_) {
        with_tiles<Read>(isa_, &t, output_, &at, to);
        to += blocks_of(static_cast<int>(t.channels)) * kRow;
      }
    }
    for (int block = 0; block < blocks_; ++block) {
      for (int r = 0; r < 6; ++r) rows_[block].at[r] = row(y - 1 + r) + block * kRow;
    }
    return &rows_[0].at;
  }

 private:
  static constexpr int64_t kRow = kPitch * kBlockChannels;
  struct Six {
    const float* at[6];
  };

  float* row(int64_t y) const { return memory_ + (y & 7) * blocks_ * kRow; }

  Isa isa_;
  const Tensors& tensors_;
  const Planes* output_;
  int blocks_;
  Tile tile_{};
  float* memory_ = nullptr;
  int64_t next_ = 0;
  std::vector<Six> rows_;
};

// The scratch of a layer's bands and their outputs.
class Outputs {
 public:
  // tensors: those that the layer's blocks are written to, one after the other.
  Outputs(Isa isa, const engine::Layer& layer, const Tensors& tensors, bool rectified, Offsets& offsets)
      : isa_(isa), layer_(layer), tensors_(tensors), rectified_(rectified) {
    const int lanes = layer.lanes();
    coefficients_ = offsets.take(int64_t{12} * blocks_of(layer.inputs) * kMaxTiles * kBlockChannels);
    products_ = offsets.take(int64_t{kPoints} * kMaxTiles * lanes);
    pixels_ = offsets.take(int64_t{2} * kBlockChannels * lanes);
    planes_ = offsets.take(int64_t{lanes} * engine::kRows * engine::kRegionColumns);
  }

  // inputs: rows y - 1 to y + 4 of each block of the layer's inputs.
  void band(const Tile& tile, int64_t y, const float* const (*inputs)[6], float* memory) const {
    const int columns = (tile.n + 3) / 4 * 4;
    const engine::Band<float> band{
        &layer_,         1, 1 + columns, nullptr, inputs, nullptr, memory + coefficients_, memory + products_,
        memory + pixels_};
    std::vector<engine::Output> outputs;
    int first = 0;
    for (const Planes& t : tensors_) {
      const int channels = static_cast<int>(t.channels), blocks = blocks_of(channels) - layer_.half;
      const int64_t bytes = bytes_of(t.dtype);
      engine::Output to{first,
                        blocks,
                        layer_.half,
                        channels,
                        tile.n,
                        t.dtype == ScalarType::BFloat16,
                        {},
                        t.pixel_stride / bytes,
                        t.channel_stride / bytes,
                        rectified_,
                        memory + planes_ + int64_t{first} * kBlockChannels * engine::kRows * engine::kRegionColumns};
      for (int r = 0; r < engine::kRows && y + r < t.height; ++r) {
        to.rows[r] = address(t, tile.b, 0, y + r, tile.x);
      }
      outputs.push_back(to), first += blocks;
    }
    with_tiles<engine::ConvolutionBand>(isa_, &band, static_cast<const engine::Output*>(outputs.data()),
                                        static_cast<int>(outputs.size()));
  }

 private:
  Isa isa_;
  const engine::Layer& layer_;
  const Tensors& tensors_;
  bool rectified_;
  int64_t coefficients_, products_, pixels_, planes_;
};

const float* parameter(const Tensor& tensor, const char* name, std::initializer_list<int64_t> shape) {
  return grid<float>(tensor, name, shape);
}

// sources: (B, C_i, H, W) each; weight: (O, sum of C_i, 3, 3); bias: (O,); result: (B, O, H, W), written. Feature maps
// are float32 or bfloat16 in memory, each by itself, parameters and arithmetic float32.
void convolution(const std::vector<Tensor> sources, const Tensor weight, const Tensor bias, bool rectified,
                 const Tensor result) {
  const Tensors from = features(sources, "sources"), to = {features(result, "result")};
  const Planes& first = from[0];
  check_shape(to[0], "result", first.batch, to[0].channels, first.height, first.width);
  const int64_t outputs = to[0].channels;
  const Isa best = isa();
  const bool planar = to[0].channel_stride != bytes_of(to[0].dtype);
  const Packed packed = Packed::forward(parameter(weight, "weight", {outputs, channels_of(from), 3, 3}),
                                        parameter(bias, "bias", {outputs}), from, static_cast<int>(outputs), planar);
  const Tiling tiling{first.batch, first.height, first.width, kRegionRows, engine::kRegionColumns};
  torch::stable::parallel_for(0, tiling.count(), 1, [&](int64_t begin, int64_t end) {
    thread_local engine::Workspace workspace;
    Offsets offsets;
    Ring ring(best, from, nullptr);
    const int64_t rows = offsets.take(ring.floats());
    const Outputs writer(best, packed.layer(), to, rectified, offsets);
    float* const memory = workspace.take(offsets);
    for (int64_t i = begin; i < end; ++i) {
      const Tile tile = tiling[i];
      ring.begin(tile, memory + rows);
      for (int64_t y = tile.y; y < tile.y + tile.rows; y += engine::kRows) writer.band(tile, y, ring.rows(y), memory);
    }
  });
}

// Sums of gradients of consecutive regions: a region's float32 sums go into doubles.
struct Sums {
  std::vector<double> weight, bias;  // (O, I, 3, 3), (O,)
};

// sums: (36, output blocks * 16, input blocks * 16) of a region, bias: (output blocks * 16); zeroed.
void add_region(const std::vector<int>& places, int outputs, int row, float* sums, float* bias, Sums& to) {
  const int64_t point = static_cast<int64_t>(blocks_of(outputs)) * kBlockChannels * row;
  double* weight = to.weight.data();
  for (int o = 0; o < outputs; ++o) {
    to.bias[o] += bias[o];
    for (const int place : places) {
      const float* const from = sums + o * row + place;
      double down[6][3], taps[3][3];
      for (int x = 0; x < 6; ++x) {
        engine::transform_taps({from[x * point], from[(6 + x) * point], from[(12 + x) * point], from[(18 + x) * point],
                                from[(24 + x) * point], from[(30 + x) * point]},
                               down[x]);
      }
      for (int y = 0; y < 3; ++y) {
        engine::transform_taps({down[0][y], down[1][y], down[2][y], down[3][y], down[4][y], down[5][y]}, taps[y]);
        for (int x = 0; x < 3; ++x) *weight++ += taps[y][x];
      }
    }
  }
  std::fill_n(sums, kPoints * point, 0.0f);
  std::fill_n(bias, blocks_of(outputs) * kBlockChannels, 0.0f);
}

// grad: (B, O, H, W), of the output; output: the same shape and type, given where the convolution was rectified;
// sources: (B, C_i, H, W) each; weight: (O, sum of C_i, 3, 3). Written: grad_sources, as sources; grad_weight, as
// weight; grad_bias: (O,). Those without elements are not wanted, the latter two together.
void convolution_backward(const Tensor grad, const std::vector<Tensor> sources, const Tensor weight,
                          const std::optional<Tensor> output, const std::vector<Tensor> grad_sources,
                          const Tensor grad_weight, const Tensor grad_bias) {
  const Tensors from = features(sources, "sources"), slopes = {features(grad, "grad")};
  const Planes& first = from[0];
  const int64_t outputs = slopes[0].channels, inputs = channels_of(from);
  check_shape(slopes[0], "grad", first.batch, outputs, first.height, first.width);
  Planes result{};
  if (output) {
    result = features(*output, "output");
    check_shape(result, "output", first.batch, outputs, first.height, first.width);
    check(result.dtype == slopes[0].dtype, "grad must have output's type");
  }
  const float* const filters = parameter(weight, "weight", {outputs, inputs, 3, 3});
  check(grad_sources.size() == from.size(), "grad_sources must be as many as sources");
  std::vector<bool> wanted;
  Tensors to;
  for (size_t s = 0; s < from.size(); ++s) {
    wanted.push_back(grad_sources[s].numel() > 0);
    if (!wanted[s]) continue;
    to.push_back(features(grad_sources[s], "grad_sources"));
    check_shape(to.back(), "grad_sources", from[s].batch, from[s].channels, from[s].height, from[s].width);
  }
  const bool parameters = grad_weight.numel() > 0;
  float* const weight_to = parameters ? grid<float>(grad_weight, "grad_weight", {outputs, inputs, 3, 3}) : nullptr;
  float* const bias_to = parameters ? grid<float>(grad_bias, "grad_bias", {outputs}) : nullptr;

  const Isa best = isa();
  const std::vector<int> places = places_of(from);
  const Packed packed = Packed::backward(filters, from, wanted, static_cast<int>(outputs));
  const Tiling tiling{first.batch, first.height, first.width, kRegionRows, engine::kRegionColumns};
  const int64_t runs = std::min(tiling.count(), kSums);
  std::vector<Sums> sums(runs);
  torch::stable::parallel_for(0, runs, 1, [&](int64_t begin, int64_t end) {
    thread_local engine::Workspace workspace;
    Offsets offsets;
    Ring values(best, from, nullptr), gradients(best, slopes, output ? &result : nullptr);
    const int64_t value_rows = offsets.take(parameters ? values.floats() : 0),
                  gradient_rows = offsets.take(gradients.floats());
    const Outputs writer(best, packed.layer(), to, false, offsets);
    const int row = values.blocks() * kBlockChannels, lanes = gradients.blocks() * kBlockChannels;
    const int64_t third = 12 * engine::kGroup * kBlockChannels;
    const int64_t value_space = offsets.take(values.blocks() * third),
                  slope_space = offsets.take(gradients.blocks() * third);
    const int64_t weight_space = offsets.take(int64_t{kPoints} * row * lanes), bias_space = offsets.take(lanes);
    float* const memory = workspace.take(offsets);
    std::fill_n(memory + weight_space, int64_t{kPoints} * row * lanes + lanes, 0.0f);
    for (int64_t run = begin; run < end; ++run) {
      if (parameters) sums[run].weight.assign(outputs * inputs * 9, 0.0), sums[run].bias.assign(outputs, 0.0);
      for (int64_t i = tiling.count() * run / runs; i < tiling.count() * (run + 1) / runs; ++i) {
        const Tile tile = tiling[i];
        values.begin(tile, memory + value_rows), gradients.begin(tile, memory + gradient_rows);
        for (int64_t y = tile.y; y < tile.y + tile.rows; y += engine::kRows) {
          const auto* const rows = gradients.rows(y);
          if (!to.empty()) writer.band(tile, y, rows, memory);
          if (!parameters) continue;
          const engine::GradientBand band{values.rows(y),
                                          rows,
                                          values.blocks(),
                                          static_cast<int>(outputs),
                                          1,
                                          1 + (tile.n + 3) / 4 * 4,
                                          memory + value_space,
                                          memory + slope_space,
                                          memory + weight_space,
                                          memory + bias_space};
          sum_gradients(best, &band);
        }
        if (parameters) {
          add_region(places, static_cast<int>(outputs), row, memory + weight_space, memory + bias_space, sums[run]);
        }
      }
    }
  });
  if (!parameters) return;
  for (int64_t i = 0; i < outputs * inputs * 9; ++i) {
    double sum = 0;
    for (const Sums& part : sums) sum += part.weight[i];
    weight_to[i] = static_cast<float>(sum);
  }
  for (int64_t o = 0; o < outputs; ++o) {
    double sum = 0;
    for (const Sums& part : sums) sum += part.bias[o];
    bias_to[o] = static_cast<float>(sum);
  }
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("convolution", TORCH_BOX(&zdce::convolution));
  m.impl("convolution_backward", TORCH_BOX(&zdce::convolution_backward));
}
