// One tile of a picture through all layers at once: four rows of each in turn, kept in rings of as many rows as later
// layers read, so that no feature map ever leaves the core's cache.
#pragma once

#include <optional>
#include <type_traits>

#include "amx.h"
#include "bands.h"
#include "picture.h"
#include "workspace.h"

namespace zdce::engine {

// Pixels [top, bottom) x [left, right) of the result; top and left are multiples of 4.
struct Tile {
  int top, bottom, left, right;
};

inline int round_up(int value, int step) { return (value + step - 1) / step * step; }
inline int floor_div(int value, int by) { return value >= 0 ? value / by : -((-value + by - 1) / by); }

// What is the same for all tiles. Layer l computes rows in fours that begin at 4 b + lead[l], where lead falls to 0 at
// the last layer: then each layer needs just the four rows that the one before has finished, and two older ones. Fours
// of rows and of columns begin at fixed places of the picture, so that a pixel's value does not depend on the tile that
// it is computed in: in Winograd's arithmetic all inputs of a 4 x 4 tile touch each output's rounding.
struct Geometry {
  std::vector<int> lead, ring, margin, first;

  explicit Geometry(const Network& network) {
    const int layers = static_cast<int>(network.layers.size());
    lead.resize(layers), ring.assign(layers, 0), margin.assign(layers, 0), first.assign(layers, 0);
    for (int l = 0; l < layers; ++l) lead[l] = layers - 1 - l;
    for (int m = layers - 1; m >= 0; --m) {
      for (const int l : network.layers[m].sources) {
        ring[l] = std::max(ring[l], lead[l] - lead[m] + 5);
        margin[l] = std::max(margin[l], margin[m] + 4);
        first[l] = std::min(first[l], first[m] + floor_div(lead[m] - 1 - lead[l], 4));
      }
    }
  }

  // Rows of the picture from the last layer's first to the first layer's last.
  int image_ring() const { return lead[0] + 5; }
};

// F is the feature maps' type: float, or Brain for bfloat16.
template <class F>
class Pass {
 public:
  Pass(const Network& network, const Geometry& geometry, Isa isa, const Picture& picture, const Target& target,
       const Tile& tile, Workspace& workspace)
      : network_(network),
        geometry_(geometry),
        isa_(isa),
        picture_(picture),
        target_(target),
        tile_(tile),
        // Room for the column before the widest layer's first, and what a vector reads beyond the last.
        origin_(tile.left - geometry.margin[0] - 8),
        columns_(round_up(tile.right - origin_ + geometry.margin[0] + 64, 16)) {
    allocate(workspace);
  }

  void run() {
    std::optional<MatrixUnit> unit;
    if (network_.brain) unit.emplace();
    const int layers = static_cast<int>(network_.layers.size());
    const int last = (tile_.bottom + kRows - 1) / kRows;
    for (int b = tile_.top / kRows + geometry_.first[0]; b < last; ++b) {
      load_rows(kRows * b + geometry_.lead[0] + kRows);
      for (int l = 0; l < layers; ++l) {
        if (b >= tile_.top / kRows + geometry_.first[l]) band(l, kRows * b + geometry_.lead[l]);
      }
    }
  }

 private:
  const Network& network_;
  const Geometry& geometry_;
  const Isa isa_;
  const Picture& picture_;
  const Target& target_;
  const Tile tile_;
  const int origin_, columns_;
  static constexpr bool kInterleaved = std::is_same_v<F, Brain>;
  std::vector<F*> rings_;  // of all layers but the last, (ring, blocks, columns, 16) or (ring, columns, blocks, 16)
  F *zeros_, *unused_;
  float *image_, *no_colors_, *coefficients_, *products_, *pixels_, *results_;
  int loaded_ = 0;  // rows of the picture before this one are in image_: (ring, 3, columns)

  void allocate(Workspace& workspace) {
    const int layers = static_cast<int>(network_.layers.size());
    int64_t inputs = 0, lanes = 0, widest = 1;
    for (const Layer& layer : network_.layers) {
      if (kInterleaved) widest = std::max<int64_t>(widest, layer.blocks);
      inputs = std::max<int64_t>(inputs, round_up(layer.inputs, kBlock));
      lanes = std::max<int64_t>(lanes, layer.lanes());
    }
    const int64_t row = static_cast<int64_t>(columns_) * kBlock;
    const int64_t scratch = kInterleaved ? kRows * kBlock : kPoints * kMaxTiles;
    Offsets offsets;
    const auto features = [&](int64_t count) { return offsets.take((count * sizeof(F) + 3) / sizeof(float)); };
    std::vector<int64_t> rings;
    for (int l = 0; l + 1 < layers; ++l) rings.push_back(features(geometry_.ring[l] * network_.layers[l].blocks * row));
    const int64_t all_rings = offsets.size, zeros = features(widest * row), unused = features(widest * row),
                  coefficients = offsets.take(scratch / 3 * inputs), products = offsets.take(scratch * lanes),
                  pixels = offsets.take(kBlock * lanes), results = offsets.take(int64_t{kMaxMaps} * kRows * columns_),
                  image = offsets.take(int64_t{3} * geometry_.image_ring() * columns_),
                  no_colors = offsets.take(columns_);
    float* const memory = workspace.take(offsets);
    for (const int64_t ring : rings) rings_.push_back(reinterpret_cast<F*>(memory + ring));
    zeros_ = reinterpret_cast<F*>(memory + zeros), unused_ = reinterpret_cast<F*>(memory + unused);
    coefficients_ = memory + coefficients, products_ = memory + products, pixels_ = memory + pixels;
    results_ = memory + results, image_ = memory + image, no_colors_ = memory + no_colors;
    // A tile before this one may have been laid out in another way. The matrix unit multiplies what lies beside the
    // columns by 0, which makes 0 of numbers only.
    if (kInterleaved) std::fill_n(memory, all_rings, 0.0f);
    std::fill_n(zeros_, widest * row, F{0});
    std::fill_n(no_colors_, columns_, 0.0f);
    loaded_ = std::max(0, kRows * (tile_.top / kRows + geometry_.first[0]) + geometry_.lead[0] - 1);
  }

  bool inside(int y) const { return y >= 0 && y < picture_.height; }
  int left(int l) const { return std::max(0, tile_.left - geometry_.margin[l]); }
  int right(int l) const {
    return std::min(round_up(picture_.width, 4), round_up(tile_.right, 4) + geometry_.margin[l]);
  }

  float* image_row(int y, int c) const {
    return image_ + (static_cast<int64_t>(y % geometry_.image_ring()) * 3 + c) * columns_;
  }

  // From a block's pixel to its next, and from a block of a row to the next block.
  int pitch(int l) const { return kInterleaved ? network_.layers[l].blocks * kBlock : kBlock; }
  int64_t block_pitch() const { return kInterleaved ? kBlock : int64_t{kBlock} * columns_; }

  F* feature_row(int l, int y) const {
    return rings_[l] + int64_t{y % geometry_.ring[l]} * network_.layers[l].blocks * columns_ * kBlock;
  }

  // Rows of the picture up to y, with zeros beside the picture.
  void load_rows(int y) {
    for (; loaded_ <= std::min(y, picture_.height - 1); ++loaded_) {
      float* const rows[3] = {image_row(loaded_, 0), image_row(loaded_, 1), image_row(loaded_, 2)};
      const int from = std::max(0, origin_), to = std::min(picture_.width, origin_ + columns_);
      for (float* const row : rows) {
        std::fill(row, row + from - origin_, 0.0f);
        std::fill(row + to - origin_, row + columns_, 0.0f);
      }
      picture_.load(isa_, loaded_, from, to - from, rows, from - origin_);
    }
  }

  void band(int l, int y) {
    if (y + kRows <= 0 || y >= picture_.height) return;
    const Layer& layer = network_.layers[l];
    const bool last = l + 1 == static_cast<int>(network_.layers.size());
    const float* colors[3][6];
    const F* inputs[kMaxInputBlocks][6];
    F* outputs[kMaxInputBlocks][kRows];
    read_rows(layer, y, colors, inputs);
    Band<F> work{&layer,  left(l) - origin_, right(l) - origin_, colors,  inputs,
                 nullptr, coefficients_,     products_,          pixels_, pitch(l)};
    if (last) {
      Finish finish;
      fill(finish, y);
      run_band(work, &finish);
      target_.store(isa_, y, std::min(kRows, tile_.bottom - y), tile_.left, tile_.right - tile_.left, finish.results,
                    tile_.left - origin_);
      return;
    }
    for (int o = 0; o < layer.blocks; ++o) {
      for (int r = 0; r < kRows; ++r) {
        outputs[o][r] = inside(y + r) ? feature_row(l, y + r) + o * block_pitch() : unused_;
      }
    }
    work.outputs = outputs;
    run_band(work, nullptr);
    clear_beside(work, left(l) == 0, right(l) >= picture_.width);
  }

  void read_rows(const Layer& layer, int y, const float* (&colors)[3][6], const F* (*inputs)[6]) const {
    for (int c = 0; c < 3; ++c) {
      for (int r = 0; r < 6; ++r) colors[c][r] = inside(y - 1 + r) ? image_row(y - 1 + r, c) : no_colors_;
    }
    for (const int source : layer.sources) {
      for (int o = 0; o < (kInterleaved ? 1 : network_.layers[source].blocks); ++o, ++inputs) {
        for (int r = 0; r < 6; ++r) {
          (*inputs)[r] = inside(y - 1 + r) ? feature_row(source, y - 1 + r) + o * block_pitch() : zeros_;
        }
      }
    }
  }

  void fill(Finish& finish, int y) const {
    finish.maps = network_.maps, finish.iterations = network_.iterations;
    finish.strength = target_.strength, finish.curve = !target_.maps;
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < 3; ++c) finish.colors[c][r] = inside(y + r) ? image_row(y + r, c) : no_colors_;
      for (int k = 0; k < kMaxMaps; ++k) finish.results[k][r] = results_ + (k * kRows + r) * int64_t{columns_};
    }
  }

  // Layers see zeros beyond the picture's border, not what the network makes of them.
  void clear_beside(const Band<F>& work, bool at_left, bool at_right) const {
    for (int o = 0; o < work.layer->blocks; ++o) {
      for (F* const row : work.outputs[o]) {
        if (at_left) clear(row, work.pitch, work.left - 1, work.left);
        if (at_right) clear(row, work.pitch, picture_.width - origin_, work.right + 1);
      }
    }
  }

  static void clear(F* row, int pitch, int from, int to) {
    for (int64_t x = from; x < to; ++x) std::fill_n(row + x * pitch, kBlock, F{0});
  }

  void run_band(const Band<float>& work, const Finish* finish) const {
    if (network_.brain) return run_avx512<SeparableBand<64, kMaxTiles, AmxProducts>>(&work, finish);
    with_tiles<AnyBand>(isa_, &work, finish, network_.separable);
  }

  void run_band(const Band<Brain>& work, const Finish* finish) const {
    if (work.layer->sources.empty()) return run_avx512<FirstBand<Brain, 64, 14>>(&work);
    run_avx512<AmxBand>(&work, finish);
  }

  template <int kBytes, int kTiles>
  struct AnyBand {
    ZDCE_INLINE static void run(const Band<float>* band, const Finish* finish, bool separable) {
      if (separable) return SeparableBand<kBytes, kTiles>::run(band, finish);
      if (band->layer->sources.empty()) return FirstBand<float, kBytes, kTiles>::run(band);
      WinogradBand<kBytes, kTiles>::run(band, finish);
    }
  };
};

}  // namespace zdce::engine
