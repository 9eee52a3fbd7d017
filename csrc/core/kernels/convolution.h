// Convolutions that are trained, forward and back.
#pragma once

#include "gradients.h"

namespace zdce::ZDCE_TARGET::convolution {

// The last eight rows of a region of concatenated tensors, in blocks: (8, blocks, kRegionPitch, 16).
class Ring {
 public:
  // output: null, or the layer's output, after whose ReLU the only tensor is a gradient of the same type.
  Ring(const Features& tensors, const Planes* output)
      : tensors_(tensors), output_(output), blocks_(blocks_in(tensors)) {}

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
      const RowPlace at{tile_.b, next_, tile_.x, columns};
      float* to = row(next_);
      for (const Planes& t : tensors_) {
        ReadRow::run(&t, output_, &at, to);
        to += blocks_of(static_cast<int>(t.channels)) * kRow;
      }
    }
    for (int block = 0; block < blocks_; ++block) {
      for (int r = 0; r < 6; ++r) rows_[block].at[r] = row(y - 1 + r) + block * kRow;
    }
    return &rows_[0].at;
  }

 private:
  static constexpr int64_t kRow = kRegionPitch * kBlock;

  float* row(int64_t y) const { return memory_ + (y & 7) * blocks_ * kRow; }

  const Features& tensors_;
  const Planes* output_;
  int blocks_;
  Tile tile_{};
  float* memory_ = nullptr;
  int64_t next_ = 0;
  std::vector<SixRows<float>> rows_;
};

// The scratch of a layer's bands and their outputs.
class Outputs {
 public:
  // tensors: those that the layer's blocks are written to, one after the other.
  Outputs(const Layer& layer, const Features& tensors, bool rectified, Offsets& offsets)
      : layer_(layer), tensors_(tensors), rectified_(rectified) {
    const int lanes = layer.lanes();
    coefficients_ = offsets.take(int64_t{12} * blocks_of(layer.inputs) * kStripTiles * kBlock);
    products_ = offsets.take(int64_t{kPoints} * kStripTiles * lanes);
    pixels_ = offsets.take(int64_t{2} * kBlock * lanes);
    planes_ = offsets.take(int64_t{lanes} * kPlanePitch);
  }

  // inputs: rows y - 1 to y + 4 of each block of the layer's inputs.
  void band(const Tile& tile, int64_t y, const float* const (*inputs)[6], float* memory) const {
    const int columns = (tile.n + 3) / 4 * 4;
    const Band<float> band{
        &layer_,         1, 1 + columns, nullptr, inputs, nullptr, memory + coefficients_, memory + products_,
        memory + pixels_};
    std::vector<Output> outputs;
    int first = 0;
    for (const Planes& t : tensors_) {
      float* const planes = memory + planes_ + int64_t{first} * kBlock * kPlanePitch;
      outputs.push_back(output_of(t, tile, y, first, layer_.half, rectified_, planes));
      first += outputs.back().blocks;
    }
    ConvolutionBand::run(&band, outputs.data(), static_cast<int>(outputs.size()));
  }

 private:
  const Layer& layer_;
  const Features& tensors_;
  bool rectified_;
  int64_t coefficients_, products_, pixels_, planes_;
};

inline void run(const ConvolutionWork& work) {
  parallel_supply(work.tiling.count(), 1, [&](Supply& supply) {
    thread_local Workspace workspace;
    Offsets offsets;
    Ring ring(work.sources, nullptr);
    const int64_t rows = offsets.take(ring.floats());
    const Outputs writer(work.layer, work.results, work.rectified, offsets);
    float* const memory = workspace.take(offsets);
    for (int64_t i, end; supply.take(i, end);) {
      const Tile tile = work.tiling[i];
      ring.begin(tile, memory + rows);
      for (int64_t y = tile.y; y < tile.y + tile.rows; y += kBandRows) writer.band(tile, y, ring.rows(y), memory);
    }
  });
}

inline void run_backward(const ConvolutionGradientWork& work) {
  const int64_t outputs = work.slopes[0].channels, inputs = channels_of(work.sources);
  const int64_t runs = static_cast<int64_t>(work.sums.size());
  parallel_supply(runs, 1, [&](Supply& supply) {
    thread_local Workspace workspace;
    Offsets offsets;
    Ring values(work.sources, nullptr), gradients(work.slopes, work.output);
    const int64_t value_rows = offsets.take(work.parameters ? values.floats() : 0),
                  gradient_rows = offsets.take(gradients.floats());
    const Outputs writer(work.turned, work.grad_sources, false, offsets);
    const int row = values.blocks() * kBlock, lanes = gradients.blocks() * kBlock;
    const int64_t third = 12 * kGroup * kBlock;
    const int64_t value_space = offsets.take(values.blocks() * third),
                  slope_space = offsets.take(gradients.blocks() * third);
    const int64_t weight_space = offsets.take(int64_t{kPoints} * row * lanes), bias_space = offsets.take(lanes);
    float* const memory = workspace.take(offsets);
    std::fill_n(memory + weight_space, int64_t{kPoints} * row * lanes + lanes, 0.0f);
    for (int64_t run, end; supply.take(run, end);) {
      if (work.parameters)
        work.sums[run].weight.assign(outputs * inputs * 9, 0.0), work.sums[run].bias.assign(outputs, 0.0);
      for (int64_t i = work.tiling.count() * run / runs; i < work.tiling.count() * (run + 1) / runs; ++i) {
        const Tile tile = work.tiling[i];
        values.begin(tile, memory + value_rows), gradients.begin(tile, memory + gradient_rows);
        for (int64_t y = tile.y; y < tile.y + tile.rows; y += kBandRows) {
          const auto* const rows = gradients.rows(y);
          if (!work.grad_sources.empty()) writer.band(tile, y, rows, memory);
          if (!work.parameters) continue;
          const GradientBand band{values.rows(y),
                                  rows,
                                  values.blocks(),
                                  static_cast<int>(outputs),
                                  1,
                                  1 + (tile.n + 3) / 4 * 4,
                                  memory + value_space,
                                  memory + slope_space,
                                  memory + weight_space,
                                  memory + bias_space};
          SumGradients::run(&band);
        }
        if (work.parameters) {
          add_region(work.places, static_cast<int>(outputs), row, memory + weight_space, memory + bias_space,
                     work.sums[run]);
        }
      }
    }
  });
}

}  // namespace zdce::ZDCE_TARGET::convolution
