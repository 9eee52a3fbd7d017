// Trained convolutions: packing, checks, and what is left of gradients when the kernels are done.

#include "convolution.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "check.h"
#include "kernels.h"
#include "pack.h"
#include "parallel.h"

namespace zdce {
namespace {

// The regions' gradients of the weights go into this many sums at most, each of consecutive regions.
constexpr int64_t kMostSums = 64;

// (B, C, H, W), float or bfloat16, any strides.
void check_features(const Planes& t, const char* name) {
  check(t.channels > 0, std::string(name) + " must have at least one channel");
  check(t.element == Element::kFloat || t.element == Element::kBFloat16,
        std::string(name) + " must be float32 or bfloat16");
}

void check_features(const Features& tensors, const char* name) {
  check(!tensors.empty(), std::string(name) + " must not be empty");
  for (const Planes& t : tensors) {
    check_features(t, name);
    check_shape(t, name, tensors[0].batch, t.channels, tensors[0].height, tensors[0].width);
  }
}

std::vector<int> channels_of_each(const Features& tensors) {
  std::vector<int> channels;
  for (const Planes& t : tensors) channels.push_back(static_cast<int>(t.channels));
  return channels;
}

// Where the channels of the sources that are wanted lie when each of these begins with a block, -1 for the others'; and
// the channels of those blocks.
struct WantedPlaces {
  std::vector<int> places;
  int channels = 0;
};

WantedPlaces wanted_places(const Features& sources, const std::vector<bool>& wanted) {
  WantedPlaces found;
  for (size_t s = 0; s < sources.size(); ++s) {
    for (int c = 0; c < sources[s].channels; ++c) found.places.push_back(wanted[s] ? found.channels + c : -1);
    if (wanted[s]) found.channels += blocks_of(static_cast<int>(sources[s].channels)) * kBlock;
  }
  return found;
}

// Calls f(i, o) for every input and output of a layer's weights, on several threads.
template <class F>
void for_each_filter(size_t inputs, int outputs, const F& f) {
  constexpr int64_t kFilters = 512;  // a few tens of microseconds
  parallel_for(static_cast<int64_t>(inputs), std::max<int64_t>(1, kFilters / outputs), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int o = 0; o < outputs; ++o) f(static_cast<size_t>(i), o);
    }
  });
}

// A layer and its transformed weights.
class PackedLayer {
 public:
  // Of the layer's filters; weight: (outputs, inputs, 3, 3), bias: (outputs,). A half block of outputs can only be
  // written to planes.
  static PackedLayer forward(const float* weight, const float* bias, const Features& sources, int outputs,
                             bool planar) {
    const std::vector<int> places = places_in_blocks(channels_of_each(sources));
    const int inputs = sources.size() == 1 ? static_cast<int>(sources[0].channels) : blocks_in(sources) * kBlock;
    const int rest = outputs % kBlock;
    PackedLayer packed(inputs, outputs, planar && inputs % kBlock == 0 && rest > 0 && rest <= 8);
    for_each_filter(places.size(), outputs,
                    [&](size_t i, int o) { packed.put(weight + (o * places.size() + i) * 9, places[i], o); });
    for (int o = 0; o < outputs; ++o) packed.bias()[lane_of(packed.layer_, o)] = bias[o];
    return packed;
  }

  // Of the way back, from `outputs` channels to those of the sources that are wanted: the filters turned by half a
  // turn.
  static PackedLayer backward(const float* weight, const Features& sources, const std::vector<bool>& wanted,
                              int outputs) {
    const WantedPlaces to = wanted_places(sources, wanted);
    PackedLayer packed(outputs, to.channels, false);
    for_each_filter(to.places.size(), outputs, [&](size_t i, int o) {
      if (to.places[i] < 0) return;
      const float* const filter = weight + (o * to.places.size() + i) * 9;
      float turned[9];
      std::reverse_copy(filter, filter + 9, turned);
      packed.put(turned, o, to.places[i]);
    });
    return packed;
  }

  const Layer& layer() const { return layer_; }

 private:
  PackedLayer(int inputs, int outputs, bool half) {
    layer_.inputs = inputs, layer_.outputs = outputs, layer_.half = half;
    layer_.blocks = blocks_of(outputs) - half;
    per_point_ = static_cast<int64_t>(inputs) * (layer_.blocks * kBlock + half * 8);
    Offsets offsets;
    offsets.take(kPoints * per_point_ + layer_.lanes());
    layer_.weights = memory_.take(offsets);
    layer_.bias = layer_.weights + kPoints * per_point_;
  }

  float* bias() { return const_cast<float*>(layer_.bias); }

  void put(const float* filter, int input, int output) {
    float* const to = const_cast<float*>(layer_.weights) + place_of(layer_, input, output);
    pack_transformed(filter, to, per_point_);
  }

  Layer layer_;
  Workspace memory_;
  int64_t per_point_ = 0;
};

// A layer and its weights for the matrix unit.
class MatrixLayer {
 public:
  // As PackedLayer::forward.
  static MatrixLayer forward(const float* weight, const float* bias, const Features& sources, int outputs) {
    MatrixLayer packed(channels_of_each(sources), outputs, weight);
    std::copy_n(bias, outputs, packed.bias());
    return packed;
  }

  // As PackedLayer::backward.
  static MatrixLayer backward(const float* weight, const Features& sources, const std::vector<bool>& wanted,
                              int outputs) {
    const int64_t inputs = channels_of(sources);
    const WantedPlaces to = wanted_places(sources, wanted);
    std::vector<float> turned(static_cast<size_t>(to.channels) * outputs * 9);  // (to.channels, outputs, 3, 3)
    for_each_filter(to.places.size(), outputs, [&](size_t i, int o) {
      if (to.places[i] < 0) return;
      const float* const filter = weight + (o * inputs + static_cast<int64_t>(i)) * 9;
      std::reverse_copy(filter, filter + 9, turned.data() + (int64_t{to.places[i]} * outputs + o) * 9);
    });
    return MatrixLayer({outputs}, to.channels, turned.data());
  }

  const Layer& layer() const { return layer_; }

 private:
  // channels: of each source; filters: (outputs, inputs, 3, 3). No bias.
  MatrixLayer(const std::vector<int>& channels, int outputs, const float* filters) {
    for (const int c : channels) layer_.widths.push_back(blocks_of(c));
    layer_.outputs = outputs, layer_.blocks = blocks_of(outputs);
    const int64_t values = int64_t{layer_.blocks} * layer_.matrices_a_block() * kMatrix;
    Offsets offsets;
    offsets.take(values / 2 + layer_.lanes());
    float* const memory = memory_.take(offsets);
    layer_.matrices = reinterpret_cast<const BFloat16*>(memory);
    layer_.bias = memory + values / 2;
    const int64_t inputs = std::accumulate(channels.begin(), channels.end(), int64_t{0});
    constexpr int64_t kValues = 1 << 15;  // a few tens of microseconds
    parallel_for(outputs, std::max<int64_t>(1, kValues / (9 * inputs)), [&](int64_t begin, int64_t end) {
      for (int o = static_cast<int>(begin); o < end; ++o) {
        pack_output_matrices(layer_, channels, o, filters + o * inputs * 9, reinterpret_cast<BFloat16*>(memory));
      }
    });
  }

  float* bias() { return const_cast<float*>(layer_.bias); }

  Layer layer_;
  Workspace memory_;
};

bool on_matrix_unit(Products products) {
  return products == Products::kBFloat16 && kernels().matrix_convolution != nullptr && can_run_bfloat16();
}

// to[i] = the sum of all parts' element i, in their order, for n elements.
void add_up(const std::vector<GradientSums>& parts, std::vector<double> GradientSums::* which, int64_t n, float* to) {
  constexpr int64_t kPiece = 256;  // sums stay in the first-level cache
  parallel_for((n + kPiece - 1) / kPiece, 4, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * kPiece; at < std::min(n, end * kPiece); at += kPiece) {
      const int64_t count = std::min(kPiece, n - at);
      double sums[kPiece] = {};
      for (const GradientSums& part : parts) {
        for (int64_t i = 0; i < count; ++i) sums[i] += (part.*which)[at + i];
      }
      for (int64_t i = 0; i < count; ++i) to[at + i] = static_cast<float>(sums[i]);
    }
  });
}

}  // namespace

int64_t channels_of(const Features& tensors) {
  int64_t channels = 0;
  for (const Planes& t : tensors) channels += t.channels;
  return channels;
}

int blocks_in(const Features& tensors) {
  int blocks = 0;
  for (const Planes& t : tensors) blocks += blocks_of(static_cast<int>(t.channels));
  return blocks;
}

void add_region(const std::vector<int>& places, int outputs, int row, float* sums, float* bias, GradientSums& to) {
  const int64_t point = static_cast<int64_t>(blocks_of(outputs)) * kBlock * row;
  double* weight = to.weight.data();
  for (int o = 0; o < outputs; ++o) {
    to.bias[o] += bias[o];
    for (const int place : places) {
      const float* const from = sums + o * row + place;
      double down[6][3], taps[3][3];
      for (int x = 0; x < 6; ++x) {
        transform_taps({from[x * point], from[(6 + x) * point], from[(12 + x) * point], from[(18 + x) * point],
                        from[(24 + x) * point], from[(30 + x) * point]},
                       down[x]);
      }
      for (int y = 0; y < 3; ++y) {
        transform_taps({down[0][y], down[1][y], down[2][y], down[3][y], down[4][y], down[5][y]}, taps[y]);
        for (int x = 0; x < 3; ++x) *weight++ += taps[y][x];
      }
    }
  }
  std::fill_n(sums, kPoints * point, 0.0f);
  std::fill_n(bias, blocks_of(outputs) * kBlock, 0.0f);
}

void add_matrix_region(const std::vector<int>& places, int outputs, int input_blocks, float* sums, float* bias,
                       GradientSums& to) {
  constexpr int kSquare = kBlock * kBlock;
  double* weight = to.weight.data();
  for (int o = 0; o < outputs; ++o) {
    to.bias[o] += bias[o / kBlock * kSquare + o % kBlock * kBlock];
    for (const int place : places) {
      const int64_t block = static_cast<int64_t>(o / kBlock) * input_blocks + place / kBlock;
      const float* const from = sums + block * 9 * kSquare + o % kBlock * kBlock + place % kBlock;
      for (int tap = 0; tap < 9; ++tap) *weight++ += from[tap * kSquare];
    }
  }
  std::fill_n(sums, int64_t{9} * kSquare * blocks_of(outputs) * input_blocks, 0.0f);
  std::fill_n(bias, int64_t{kSquare} * blocks_of(outputs), 0.0f);
}

void convolution(const Features& sources, const float* weight, const float* bias, bool rectified, Products products,
                 const Planes& result) {
  check_features(sources, "sources");
  check_features(result, "result");
  const Planes& first = sources[0];
  check_shape(result, "result", first.batch, result.channels, first.height, first.width);
  const int outputs = static_cast<int>(result.channels);
  const Tiling tiling{first.batch, first.height, first.width, kRegionRows, kRegionColumns};
  if (on_matrix_unit(products)) {
    const MatrixLayer packed = MatrixLayer::forward(weight, bias, sources, outputs);
    return kernels().matrix_convolution({sources, packed.layer(), {result}, rectified, tiling});
  }
  const bool planar = result.channel_stride != bytes_of(result.element);
  const PackedLayer packed = PackedLayer::forward(weight, bias, sources, outputs, planar);
  kernels().convolution({sources, packed.layer(), {result}, rectified, tiling});
}

void convolution_backward(const Planes& grad, const Features& sources, const float* weight, const Planes* output,
                          Products products, const Features& grad_sources, float* grad_weight, float* grad_bias) {
  check_features(sources, "sources");
  check_features(grad, "grad");
  const Planes& first = sources[0];
  const int64_t outputs = grad.channels, inputs = channels_of(sources);
  check_shape(grad, "grad", first.batch, outputs, first.height, first.width);
  if (output != nullptr) {
    check_shape(*output, "output", first.batch, outputs, first.height, first.width);
    check(output->element == grad.element, "grad must have output's type");
  }
  check(grad_sources.size() == sources.size(), "grad_sources must be as many as sources");
  std::vector<bool> wanted;
  Features to;
  for (size_t s = 0; s < sources.size(); ++s) {
    wanted.push_back(grad_sources[s].data != nullptr);
    if (!wanted[s]) continue;
    check_features(grad_sources[s], "grad_sources");
    check_shape(grad_sources[s], "grad_sources", first.batch, sources[s].channels, first.height, first.width);
    to.push_back(grad_sources[s]);
  }
  const bool parameters = grad_weight != nullptr;
  const std::vector<int> places = places_in_blocks(channels_of_each(sources));
  const Tiling tiling{first.batch, first.height, first.width, kRegionRows, kRegionColumns};
  std::vector<GradientSums> sums(std::min(tiling.count(), kMostSums));
  const auto run = [&](const auto& packed, auto kernel) {
    kernel({sources, {grad}, output, packed.layer(), to, places, parameters, sums, tiling});
  };
  if (on_matrix_unit(products)) {
    run(MatrixLayer::backward(weight, sources, wanted, static_cast<int>(outputs)),
        kernels().matrix_convolution_backward);
  } else {
    run(PackedLayer::backward(weight, sources, wanted, static_cast<int>(outputs)), kernels().convolution_backward);
  }
  if (!parameters) return;
  add_up(sums, &GradientSums::weight, outputs * inputs * 9, grad_weight);
  add_up(sums, &GradientSums::bias, outputs, grad_bias);
}

}  // namespace zdce
