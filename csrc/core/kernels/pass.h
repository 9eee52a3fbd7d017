// One tile of a picture through all layers at once: four rows of each in turn, kept in rings of as many rows as later
// layers read, so that no feature map ever leaves the core's cache.
#pragma once

#include "amx.h"
#include "bands.h"
#include "bfmmla.h"
#include "picture_rows.h"

namespace zdce::ZDCE_TARGET {

// F is the feature maps' type: float or BFloat16.
template <class F>
class Pass {
 public:
  Pass(const Network& network, const Geometry& geometry, const Picture& picture, const NetworkResult& result,
       const PictureTile& tile, Workspace& workspace)
      : network_(network),
        geometry_(geometry),
        kept_(network, geometry),
        picture_(picture),
        height_(static_cast<int>(picture.height)),
        width_(static_cast<int>(picture.width)),
        result_(result),
        tile_(tile),
        // Room for the column before the widest layer's first, and what a vector reads beyond the last.
        origin_(tile.left - geometry.margin[0] - 8),
        columns_(round_up(tile.right - origin_ + geometry.margin[0] + 64, 16)) {
    allocate(workspace);
  }

  void run() {
#if ZDCE_HAS_AMX
    std::optional<MatrixUnit> unit;
    if (network_.bfloat16) unit.emplace();
#endif
    const int layers = static_cast<int>(network_.layers.size());
    const int last = (tile_.bottom + kBandRows - 1) / kBandRows;
    for (int b = tile_.top / kBandRows + geometry_.first[0]; b < last; ++b) {
      load_rows(kBandRows * b + geometry_.lead[0] + kBandRows);
      for (int l = 0; l < layers; ++l) {
        if (b >= tile_.top / kBandRows + geometry_.first[l]) band(l, kBandRows * b + geometry_.lead[l]);
      }
    }
  }

 private:
  const Network& network_;
  const Geometry& geometry_;
  const Rings kept_;
  const Picture& picture_;
  const int height_, width_;
  const NetworkResult& result_;
  const PictureTile tile_;
  const int origin_, columns_;
  static constexpr bool kInterleaved = std::is_same_v<F, BFloat16>;
  // Of each layer, perhaps of no rows: (ring, blocks, columns, 16), or (ring, columns, blocks, 16) in bfloat16.
  std::vector<F*> rings_;
  std::vector<F*> joint_rings_;  // of layers whose sources lie side by side, (ring, columns, blocks, 16)
  std::vector<Copy> copies_;
  F *zeros_, *unused_;
  F* color_values_;  // in bfloat16: (ring, columns, kColorValues)
  float *image_, *no_colors_, *coefficients_, *products_, *pixels_, *results_;
  int loaded_ = 0;  // rows of the picture before this one are in image_: (ring, 3, columns)

  void allocate(Workspace& workspace) {
    const int layers = static_cast<int>(network_.layers.size());
    int64_t inputs = 0, lanes = 0, widest = 1;
    for (const Layer& layer : network_.layers) {
      if (kInterleaved) widest = std::max<int64_t>(widest, std::max(layer.blocks, blocks_of(layer.inputs)));
      inputs = std::max<int64_t>(inputs, round_up(layer.inputs, kBlock));
      lanes = std::max<int64_t>(lanes, layer.lanes());
    }
    const int64_t row = static_cast<int64_t>(columns_) * kBlock;
    const int64_t scratch = kInterleaved ? 2 * kBandRows * kBlock : kPoints * kStripTiles;
    Offsets offsets;
    const auto features = [&](int64_t count) { return offsets.take((count * sizeof(F) + 3) / sizeof(float)); };
    std::vector<int64_t> rings, joint_rings;
    for (int l = 0; l < layers; ++l) {
      rings.push_back(features(kept_.own[l] * network_.layers[l].blocks * row));
      joint_rings.push_back(features(kept_.joint[l] * blocks_of(network_.layers[l].inputs) * row));
    }
    const int64_t all_rings = offsets.size, zeros = features(widest * row), unused = features(widest * row),
                  coefficients = offsets.take(kInterleaved ? 0 : scratch / 3 * inputs),
                  products = offsets.take(scratch * lanes), pixels = offsets.take(kInterleaved ? 0 : kBlock * lanes),
                  results = offsets.take(int64_t{kMaxMaps} * kBandRows * columns_),
                  image = offsets.take(int64_t{3} * geometry_.image_ring() * columns_),
                  color_values = features(kInterleaved ? int64_t{kColorValues} * geometry_.image_ring() * columns_ : 0),
                  no_colors = offsets.take(columns_);
    float* const memory = workspace.take(offsets);
    for (const int64_t ring : rings) rings_.push_back(reinterpret_cast<F*>(memory + ring));
    for (const int64_t ring : joint_rings) joint_rings_.push_back(reinterpret_cast<F*>(memory + ring));
    zeros_ = reinterpret_cast<F*>(memory + zeros), unused_ = reinterpret_cast<F*>(memory + unused);
    coefficients_ = memory + coefficients, products_ = memory + products, pixels_ = memory + pixels;
    results_ = memory + results, image_ = memory + image, no_colors_ = memory + no_colors;
    color_values_ = reinterpret_cast<F*>(memory + color_values);
    // A tile before this one may have been laid out in another way. AMX multiplies what lies beside the
    // columns by 0, which makes 0 of numbers only.
    if (kInterleaved) std::fill_n(memory, all_rings, 0.0f);
    std::fill_n(zeros_, widest * row, F{0});
    std::fill_n(no_colors_, columns_, 0.0f);
    loaded_ = std::max(0, kBandRows * (tile_.top / kBandRows + geometry_.first[0]) + geometry_.lead[0] - 1);
  }

  bool inside(int y) const { return y >= 0 && y < height_; }
  int left(int l) const { return std::max(0, tile_.left - geometry_.margin[l]); }
  int right(int l) const { return std::min(round_up(width_, 4), round_up(tile_.right, 4) + geometry_.margin[l]); }

  float* image_row(int y, int c) const {
    return image_ + (static_cast<int64_t>(y % geometry_.image_ring()) * 3 + c) * columns_;
  }

  F* color_values_row(int y) const {
    return color_values_ + int64_t{y % geometry_.image_ring()} * kColorValues * columns_;
  }

  F* feature_row(int l, int y) const {
    return rings_[l] + int64_t{y % kept_.own[l]} * network_.layers[l].blocks * columns_ * kBlock;
  }

  F* joint_row(int l, int y) const {
    return joint_rings_[l] + int64_t{y % kept_.joint[l]} * network_.layers[l].inputs * columns_;
  }

  // Rows of the picture up to y, with zeros beside the picture.
  void load_rows(int y) {
    for (; loaded_ <= std::min(y, height_ - 1); ++loaded_) {
      float* const rows[3] = {image_row(loaded_, 0), image_row(loaded_, 1), image_row(loaded_, 2)};
      const int from = std::max(0, origin_), to = std::min(width_, origin_ + columns_);
      for (float* const row : rows) {
        std::fill(row, row + from - origin_, 0.0f);
        std::fill(row + to - origin_, row + columns_, 0.0f);
      }
      load_pixels(picture_, loaded_, from, to - from, rows, from - origin_);
#if ZDCE_HAS_AMX || ZDCE_HAS_BFMMLA
      if constexpr (kInterleaved) BFloat16Band::split_colors(rows, columns_, color_values_row(loaded_));
#endif
    }
  }

  // Where rows y to y + 3 of layer l go in bfloat16.
  void find_copies(int l, int y) {
    copies_.clear();
    const auto add = [&](int pitch, const auto& row_of) {
      Copy& copy = copies_.emplace_back();
      for (int r = 0; r < kBandRows; ++r) copy.rows[r] = inside(y + r) ? row_of(y + r) : unused_;
      copy.pitch = pitch;
    };
    if (kept_.own[l] > 0) add(network_.layers[l].blocks * kBlock, [&](int row) { return feature_row(l, row); });
    for (int m = l + 1; m < static_cast<int>(network_.layers.size()); ++m) {
      const Layer& reader = network_.layers[m];
      if (!reader.joint()) continue;
      int first = 0;
      for (const int source : reader.sources) {
        if (source == l) add(reader.inputs, [&](int row) { return joint_row(m, row) + first; });
        first += network_.layers[source].blocks * kBlock;
      }
    }
  }

  void band(int l, int y) {
    if (y + kBandRows <= 0 || y >= height_) return;
    const bool last = l + 1 == static_cast<int>(network_.layers.size());
    Finish finish;
    if (last) fill(finish, y);
    run_layer(l, y, last ? &finish : nullptr);
    if (last) {
      store_pixels(result_, y, std::min(kBandRows, tile_.bottom - y), tile_.left, tile_.right - tile_.left,
                   finish.results, tile_.left - origin_);
    }
  }

  void run_layer(int l, int y, const Finish* finish) {
    const Columns columns{&network_.layers[l], left(l) - origin_, right(l) - origin_};
    const F* inputs[kMaxInputBlocks][6];
    find_inputs(l, y, inputs);
    if constexpr (kInterleaved) {
      find_copies(l, y);
      run_band(Band<F>{columns, inputs, &copies_, products_}, finish);
      for (const Copy& copy : copies_) {
        for (F* const row : copy.rows) clear_beside(l, row, copy.pitch, columns.layer->blocks * kBlock);
      }
    } else {
      const float* colors[3][6];
      F* outputs[kMaxInputBlocks][kBandRows];
      find_colors(y, colors);
      find_outputs(l, y, outputs);
      run_band(Band<F>{columns, colors, inputs, outputs, coefficients_, products_, pixels_}, finish);
      for (int o = 0; o < columns.layer->blocks; ++o) {
        for (F* const row : outputs[o]) clear_beside(l, row, kBlock, kBlock);
      }
    }
  }

  void find_colors(int y, const float* (&colors)[3][6]) const {
    for (int c = 0; c < 3; ++c) {
      for (int r = 0; r < 6; ++r) colors[c][r] = inside(y - 1 + r) ? image_row(y - 1 + r, c) : no_colors_;
    }
  }

  // Rows y to y + 3 of each block of a layer, where a later one reads them.
  void find_outputs(int l, int y, F* (*outputs)[kBandRows]) const {
    for (int o = 0; o < network_.layers[l].blocks; ++o) {
      for (int r = 0; r < kBandRows; ++r) {
        const bool kept = inside(y + r) && kept_.own[l] > 0;
        outputs[o][r] = kept ? feature_row(l, y + r) + int64_t{o} * kBlock * columns_ : unused_;
      }
    }
  }

  void find_inputs(int l, int y, const F* (*inputs)[6]) const {
    const Layer& layer = network_.layers[l];
    const auto six_rows = [&](const auto& row_of) {
      for (int r = 0; r < 6; ++r) (*inputs)[r] = inside(y - 1 + r) ? row_of(y - 1 + r) : zeros_;
      ++inputs;
    };
    if (kInterleaved && layer.sources.empty()) six_rows([&](int row) { return color_values_row(row); });
    if (layer.joint()) return six_rows([&](int row) { return joint_row(l, row); });
    for (const int source : layer.sources) {
      for (int o = 0; o < (kInterleaved ? 1 : network_.layers[source].blocks); ++o) {
        six_rows([&](int row) { return feature_row(source, row) + int64_t{o} * kBlock * columns_; });
      }
    }
  }

  void fill(Finish& finish, int y) const {
    finish.maps = network_.maps, finish.iterations = network_.iterations;
    finish.strength = result_.strength, finish.curve = !result_.maps;
    for (int r = 0; r < kBandRows; ++r) {
      for (int c = 0; c < 3; ++c) finish.colors[c][r] = inside(y + r) ? image_row(y + r, c) : no_colors_;
      for (int k = 0; k < kMaxMaps; ++k) finish.results[k][r] = results_ + (k * kBandRows + r) * int64_t{columns_};
    }
  }

  // Layers see zeros beyond the picture's border, not what the network makes of them.
  void clear_beside(int l, F* row, int pitch, int channels) const {
    if (left(l) == 0) std::fill_n(row - (origin_ + 1) * int64_t{pitch}, channels, F{0});
    for (int64_t x = width_; x <= right(l); ++x) std::fill_n(row + (x - origin_) * pitch, channels, F{0});
  }

  void run_band(const Band<float>& work, const Finish* finish) const {
#if ZDCE_HAS_AMX || ZDCE_HAS_BFMMLA
    if (network_.bfloat16) return SeparableBand<BFloat16Products>::run(&work, finish);
#endif
    if (network_.separable) return SeparableBand<>::run(&work, finish);
    if (work.layer->sources.empty()) return FirstBand::run(&work);
    WinogradBand::run(&work, finish);
  }

  void run_band([[maybe_unused]] const Band<BFloat16>& work, [[maybe_unused]] const Finish* finish) const {
#if ZDCE_HAS_AMX || ZDCE_HAS_BFMMLA
    BFloat16Band::run(&work, finish);
#endif
  }
};

// One tile of a picture through a network.
inline void run_network_tile(const Network& network, const Geometry& geometry, const Picture& picture,
                             const NetworkResult& result, const PictureTile& tile, Workspace& workspace) {
  if (network.bfloat16_features()) return Pass<BFloat16>(network, geometry, picture, result, tile, workspace).run();
  Pass<float>(network, geometry, picture, result, tile, workspace).run();
}

}  // namespace zdce::ZDCE_TARGET
