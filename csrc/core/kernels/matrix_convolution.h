// Convolutions for training, forward and backward, on the matrix unit (Intel AMX). Sources, weights and gradients are
// rounded to bfloat16; sums are float32.
#pragma once

#include "amx.h"
#include "gradients.h"

namespace zdce::ZDCE_TARGET {

#if ZDCE_HAS_AMX

// Rows of tensors as pixels of bfloat16, (pixels, blocks * 16), with zeros beyond the picture and the last channel.
struct ReadPixels {
  // The matrix unit reads one column beyond those that outputs need; its weights are 0, so it must only be finite.
  static constexpr int kBehind = 1;

  // to: (at.n + 2 + kBehind, blocks * 16); scratch: (blocks, kRegionPitch, 16). output: as in ReadRow.
  ZDCE_INLINE static void run(const Planes& from, const Planes* output, const RowPlace& at, float* scratch,
                              BFloat16* to) {
    const int blocks = blocks_of(static_cast<int>(from.channels)), pixel = blocks * kBlock;
    if (has_whole_bfloat16_blocks(from) && (output == nullptr || has_whole_bfloat16_blocks(*output))) {
      copy(from, output, at, blocks, to);
    } else {
      ReadRow::run(&from, output, &at, scratch);
      for (int b = 0; b < blocks; ++b) {
        const float* const values = scratch + static_cast<int64_t>(b) * kRegionPitch * kBlock;
        for (int64_t p = 0; p < at.n + 2; ++p) {
          const Halves halves = rounded_halves(load_register(values + p * kBlock));
          std::memcpy(to + p * pixel + b * kBlock, &halves, sizeof(halves));
        }
      }
    }
    std::fill_n(to + static_cast<int64_t>(at.n + 2) * pixel, kBehind * pixel, BFloat16{});
  }

 private:
  ZDCE_INLINE static bool has_whole_bfloat16_blocks(const Planes& t) {
    return t.element == Element::kBFloat16 && t.channel_stride == sizeof(BFloat16) && t.channels % kBlock == 0;
  }

  ZDCE_INLINE static void copy(const Planes& from, const Planes* output, const RowPlace& at, int blocks, BFloat16* to) {
    const bool inside = at.y >= 0 && at.y < from.height;
    const int64_t pixel = int64_t{blocks} * kBlock;
    const int64_t first = !inside ? at.n + 2 : at.x == 0;
    const int64_t last = !inside ? first : std::min<int64_t>(at.n + 2, from.width - at.x + 1);
    std::fill_n(to, first * pixel, BFloat16{});
    std::fill_n(to + last * pixel, (at.n + 2 - last) * pixel, BFloat16{});
    if (!inside) return;
    const char* source = address(from, at.b, 0, at.y, at.x - 1 + first);
    to += first * pixel;
    if (output != nullptr) {
      mask(source, from.pixel_stride, address(*output, at.b, 0, at.y, at.x - 1 + first), output->pixel_stride, pixel,
           last - first, to);
    } else if (from.pixel_stride == pixel * static_cast<int64_t>(sizeof(BFloat16))) {
      std::memcpy(to, source, (last - first) * from.pixel_stride);
    } else {
      for (int64_t p = first; p < last; ++p, source += from.pixel_stride, to += pixel) {
        std::memcpy(to, source, pixel * sizeof(BFloat16));
      }
    }
  }

  // Keeps values where the output is above 0 or NaN.
  ZDCE_INLINE static void mask(const char* from, int64_t stride, const char* output, int64_t output_stride,
                               int64_t pixel, int64_t n, BFloat16* to) {
    typedef uint16_t Bits __attribute__((vector_size(32)));
    constexpr uint16_t kMinusInfinity = 0xff80;
    for (int64_t p = 0; p < n; ++p, from += stride, output += output_stride) {
      for (int64_t c = 0; c < pixel; c += kBlock, to += kBlock) {
        Halves v, kept;
        std::memcpy(&v, from + c * sizeof(BFloat16), sizeof(v));
        std::memcpy(&kept, output + c * sizeof(BFloat16), sizeof(kept));
        v &= (kept > 0) | (reinterpret_cast<Bits>(kept) > kMinusInfinity);
        std::memcpy(to, &v, sizeof(v));
      }
    }
  }
};

// Writes one block of 16 outputs, of four rows and 16 columns, to its tensor. If the tensor's channels are not adjacent
// in memory, it goes to scratch, from which put_planes writes whole rows. from: (4, 16 pixels, 16).
struct PutBlock {
  ZDCE_INLINE static void run(const float* from, const Output& to, int block, int column) {
    if (to.channel != 1) return planar(from, to, block, column);
    for (int r = 0; r < kBandRows && to.rows[r] != nullptr; ++r, from += kBlock * kBlock) {
      if (to.bfloat16) {
        interleaved<BFloat16>(from, to, r, block, column);
      } else {
        interleaved<float>(from, to, r, block, column);
      }
    }
  }

 private:
  template <class F>
  ZDCE_INLINE static void interleaved(const float* from, const Output& to, int r, int block, int column) {
    const float least = ConvolutionBand::least(to);
    const int channels = std::min(kBlock, to.channels - block * kBlock), n = std::min(kBlock, to.columns - column);
    F* at = ConvolutionBand::row<F>(to, r) + column * to.pixel + block * kBlock;
    for (int p = 0; p < n; ++p, from += kBlock, at += to.pixel) {
      put(ConvolutionBand::at_least(load_register(from), least), channels, at);
    }
  }

  // The first n of 16 values.
  ZDCE_INLINE static void put(Register v, int n, float* to) {
    if (n == kBlock) {
      store_register(to, v);
    } else {
      std::memcpy(to, &v, n * sizeof(float));
    }
  }

  ZDCE_INLINE static void put(Register v, int n, BFloat16* to) {
    const Halves halves = rounded_halves(v);
    if (n == kBlock) {
      std::memcpy(to, &halves, sizeof(halves));
    } else {
      std::memcpy(to, &halves, n * sizeof(BFloat16));
    }
  }

  ZDCE_INLINE static void planar(const float* from, const Output& to, int block, int column) {
    const float least = ConvolutionBand::least(to);
    const int channels = std::min(kBlock, to.channels - block * kBlock);
    alignas(64) float planes[kBlock * kBlock];
    for (int r = 0; r < kBandRows; ++r) {
      transpose(from + r * kBlock * kBlock, planes);
      float* const at = to.planes + block * kBlock * kPlanePitch + r * kRegionColumns + column;
      for (int k = 0; k < channels; ++k) {
        store_register(at + k * kPlanePitch, ConvolutionBand::at_least(load_register(planes + k * kBlock), least));
      }
    }
  }
};

// The weights' gradient as products of matrices whose inner dimension is 32 pixels of a row. The left matrix has 16
// channels of gradients, planar; the right one 16 channels of values, in pairs of neighbouring pixels.
struct MatrixGradient {
  // Lines of 64 bytes, each with two pixels of a block. A row of values has the pairs that begin at even pixels, then
  // those that begin at odd pixels, so that all three columns of taps are read aligned.
  static constexpr int kPairs = kRegionPitch / 2;
  static constexpr int64_t kValueRow = int64_t{2} * kPairs * 2 * kBlock;
  static constexpr int kChunk = 32;

  // pixels: (columns + 2, blocks * 16); to: (blocks, 2, kPairs, 16, 2).
  ZDCE_INLINE static void pair_values(const BFloat16* pixels, int blocks, int columns, BFloat16* to) {
    const int64_t pixel = int64_t{blocks} * kBlock;
    for (int b = 0; b < blocks; ++b, pixels += kBlock) {
      for (int odd = 0; odd < 2; ++odd, to += kPairs * 2 * kBlock) {
        for (int64_t i = 0; i < columns / 2 + 1 - odd; ++i) pair(pixels + (2 * i + odd) * pixel, pixel, to + i * 32);
      }
    }
  }

  // pixels: (columns + 2, blocks * 16), the first column before those that count; to: (blocks, chunks, 16, 32).
  ZDCE_INLINE static void plane_gradients(const BFloat16* pixels, int blocks, int columns, BFloat16* to) {
    const int64_t pixel = int64_t{blocks} * kBlock;
    alignas(64) float pairs[kBlock * kBlock], planes[kBlock * kBlock];
    for (int b = 0; b < blocks; ++b, pixels += kBlock) {
      for (int64_t x = 1; x <= columns; x += kChunk, to += kMatrix) {
        for (int64_t i = 0; i < kBlock; ++i) {
          pair(pixels + (x + 2 * i) * pixel, pixel, reinterpret_cast<BFloat16*>(pairs + i * kBlock));
        }
        transpose(pairs, planes);
        std::memcpy(to, planes, sizeof(planes));
      }
    }
  }

  // Interleaves the channels of two pixels.
  ZDCE_INLINE static void pair(const BFloat16* from, int64_t pixel, BFloat16* to) {
    typedef int16_t Two __attribute__((vector_size(64)));
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)),
                  second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + pixel));
    // In registers: a load that spans two recent stores would have to wait for both.
    const Two both = reinterpret_cast<Two>(_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1));
    const Two v = shuffle<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                          13, 29, 14, 30, 15, 31>(both, both);
    std::memcpy(to, &v, sizeof(v));
  }

  // values: rows y - 1 to y + 4 of a block, in pairs; gradients: rows y to y + 3, planar; sums: (3, 3, 16, 16), added
  // to.
  ZDCE_INLINE static void add(const BFloat16* const (&values)[6], const BFloat16* const (&gradients)[4], int chunks,
                              float* sums) {
    for (int tap = 0; tap < 3; ++tap, sums += kBlock * kBlock) {
      const int64_t line = tap == 1 ? kPairs : tap / 2;
      float *const middle = sums + 3 * kBlock * kBlock, *const last = sums + 6 * kBlock * kBlock;
      ZDCE_MATRIX_LOAD(0, sums, 64);
      ZDCE_MATRIX_LOAD(1, middle, 64);
      ZDCE_MATRIX_LOAD(2, last, 64);
      for (int64_t c = 0; c < chunks; ++c) {
        const int64_t at = (line + c * kBlock) * 2 * kBlock, slope = c * kMatrix;
        ZDCE_MATRIX_LOAD(3, gradients[0] + slope, 64);
        ZDCE_MATRIX_LOAD(7, values[0] + at, 64);
        ZDCE_MATRIX_MULTIPLY(0, 3, 7);
        ZDCE_MATRIX_LOAD(4, gradients[1] + slope, 64);
        ZDCE_MATRIX_LOAD(7, values[1] + at, 64);
        ZDCE_MATRIX_MULTIPLY(1, 3, 7);
        ZDCE_MATRIX_MULTIPLY(0, 4, 7);
        ZDCE_MATRIX_LOAD(5, gradients[2] + slope, 64);
        ZDCE_MATRIX_LOAD(7, values[2] + at, 64);
        ZDCE_MATRIX_MULTIPLY(2, 3, 7);
        ZDCE_MATRIX_MULTIPLY(1, 4, 7);
        ZDCE_MATRIX_MULTIPLY(0, 5, 7);
        ZDCE_MATRIX_LOAD(6, gradients[3] + slope, 64);
        ZDCE_MATRIX_LOAD(7, values[3] + at, 64);
        ZDCE_MATRIX_MULTIPLY(2, 4, 7);
        ZDCE_MATRIX_MULTIPLY(1, 5, 7);
        ZDCE_MATRIX_MULTIPLY(0, 6, 7);
        ZDCE_MATRIX_LOAD(7, values[4] + at, 64);
        ZDCE_MATRIX_MULTIPLY(2, 5, 7);
        ZDCE_MATRIX_MULTIPLY(1, 6, 7);
        ZDCE_MATRIX_LOAD(7, values[5] + at, 64);
        ZDCE_MATRIX_MULTIPLY(2, 6, 7);
      }
      ZDCE_MATRIX_STORE(0, sums, 64);
      ZDCE_MATRIX_STORE(1, middle, 64);
      ZDCE_MATRIX_STORE(2, last, 64);
    }
  }

  // gradients: as above; bias: (16, 16 times the same), added to.
  ZDCE_INLINE static void add_bias(const BFloat16* const (&gradients)[4], int chunks, float* bias) {
    constexpr uint32_t kOnes = 0x3f803f80;  // two of them
    alignas(64) uint32_t ones[kBlock];
    std::fill_n(ones, kBlock, kOnes);
    ZDCE_MATRIX_LOAD(7, ones, 0);
    ZDCE_MATRIX_LOAD(0, bias, 64);
    for (int64_t c = 0; c < chunks; ++c) {
      for (int r = 0; r < kBandRows; ++r) {
        ZDCE_MATRIX_LOAD(3, gradients[r] + c * kMatrix, 64);
        ZDCE_MATRIX_MULTIPLY(0, 3, 7);
      }
    }
    ZDCE_MATRIX_STORE(0, bias, 64);
  }
};

#endif

}  // namespace zdce::ZDCE_TARGET

#if ZDCE_HAS_AMX

namespace zdce::ZDCE_TARGET::matrix_convolution {

// Columns of a region: the matrix unit processes 32 pixels at a time for weights, 16 for outputs.
inline int columns_of(const Tile& tile) {
  return (tile.n + MatrixGradient::kChunk - 1) / MatrixGradient::kChunk * MatrixGradient::kChunk;
}

// Scratch in bfloat16; sizes are in floats, as for all scratch.
inline int64_t take_bfloat16(Offsets& offsets, int64_t values) { return offsets.take((values + 1) / 2); }
inline BFloat16* bfloat16_at(float* memory, int64_t offset) { return reinterpret_cast<BFloat16*>(memory + offset); }

// The last eight rows of a region, separately for each tensor: (8, kRegionPitch, blocks * 16).
class PixelRing {
 public:
  // output: as in convolution::Ring.
  PixelRing(const Features& tensors, const Planes* output, Offsets& offsets)
      : tensors_(tensors), output_(output), rows_(tensors.size()) {
    int most = 0;
    for (const Planes& t : tensors) {
      const int blocks = blocks_of(static_cast<int>(t.channels));
      places_.push_back(take_bfloat16(offsets, 8 * row_of(blocks)));
      most = std::max(most, blocks);
    }
    scratch_ = offsets.take(int64_t{most} * kRegionPitch * kBlock);
  }

  void begin(const Tile& tile, float* memory) { tile_ = tile, memory_ = memory, next_ = tile.y - 1; }

  // Rows y - 1 to y + 4 of each tensor.
  const BFloat16* const (*rows(int64_t y))[6] {
    for (; next_ <= y + 4; ++next_) {
      const RowPlace at{tile_.b, next_, tile_.x, columns_of(tile_)};
      for (size_t s = 0; s < tensors_.size(); ++s) {
        ReadPixels::run(tensors_[s], output_, at, memory_ + scratch_, row(s, next_));
      }
    }
    for (size_t s = 0; s < tensors_.size(); ++s) {
      for (int r = 0; r < 6; ++r) rows_[s].at[r] = row(s, y - 1 + r);
    }
    return &rows_[0].at;
  }

 private:
  static int64_t row_of(int blocks) { return int64_t{kRegionPitch} * blocks * kBlock; }

  BFloat16* row(size_t s, int64_t y) const {
    const int blocks = blocks_of(static_cast<int>(tensors_[s].channels));
    return bfloat16_at(memory_, places_[s]) + (y & 7) * row_of(blocks);
  }

  const Features& tensors_;
  const Planes* output_;
  std::vector<int64_t> places_;
  int64_t scratch_;
  Tile tile_{};
  float* memory_ = nullptr;
  int64_t next_ = 0;
  std::vector<SixRows<BFloat16>> rows_;
};

// The last eight rows of a region of concatenated tensors, in pairs of pixels: (8, blocks, 2, kPairs, 16, 2).
class PairRing {
 public:
  PairRing(const Features& tensors, bool used, Offsets& offsets) : tensors_(tensors), blocks_(blocks_in(tensors)) {
    if (!used) return;
    place_ = take_bfloat16(offsets, 8 * blocks_ * MatrixGradient::kValueRow);
    pixels_ = take_bfloat16(offsets, int64_t{kRegionPitch} * blocks_ * kBlock);
    scratch_ = offsets.take(int64_t{blocks_} * kRegionPitch * kBlock);
  }

  int blocks() const { return blocks_; }

  void begin(const Tile& tile, float* memory) { tile_ = tile, memory_ = memory, next_ = tile.y - 1; }

  // Reads rows up to y + 4.
  void read(int64_t y) {
    const int columns = columns_of(tile_);
    BFloat16* const pixels = bfloat16_at(memory_, pixels_);
    for (; next_ <= y + 4; ++next_) {
      const RowPlace at{tile_.b, next_, tile_.x, columns};
      BFloat16* to = row(next_, 0);
      for (const Planes& t : tensors_) {
        const int blocks = blocks_of(static_cast<int>(t.channels));
        ReadPixels::run(t, nullptr, at, memory_ + scratch_, pixels);
        MatrixGradient::pair_values(pixels, blocks, columns, to);
        to += blocks * MatrixGradient::kValueRow;
      }
    }
  }

  const BFloat16* at(int64_t y, int block) const { return row(y, block); }

 private:
  BFloat16* row(int64_t y, int block) const {
    return bfloat16_at(memory_, place_) + ((y & 7) * blocks_ + block) * MatrixGradient::kValueRow;
  }

  const Features& tensors_;
  int blocks_;
  int64_t place_ = 0, pixels_ = 0, scratch_ = 0;
  Tile tile_{};
  float* memory_ = nullptr;
  int64_t next_ = 0;
};

// A layer's outputs, four rows at a time, and where they go.
class Outputs {
 public:
  // tensors: those that the layer's blocks are written to, one after the other.
  Outputs(const Layer& layer, const Features& tensors, bool rectified, Offsets& offsets)
      : layer_(layer), tensors_(tensors), rectified_(rectified) {
    products_ = offsets.take(int64_t{kBandRows} * kBlock * kBlock);
    planes_ = offsets.take(int64_t{layer.lanes()} * kPlanePitch);
  }

  // inputs: rows y - 1 to y + 4 of each of the layer's sources.
  void band(const Tile& tile, int64_t y, const BFloat16* const (*inputs)[6], float* memory) const {
    float* const products = memory + products_;
    const Band<BFloat16> band{{&layer_, 1, 1 + columns_of(tile)}, inputs, nullptr, products};
    int first = 0;
    for (const Planes& t : tensors_) {
      const Output to = output_of(t, tile, y, first, false, rectified_, memory + planes_);
      // A block's weights stay in the first-level cache for the whole row.
      for (int o = 0; o < to.blocks; ++o) {
        for (int x = 0; x < tile.n; x += kBlock) {
          AmxUnit::multiply(band, 1 + x, first + o, products, [] {}, layer_.bias + (first + o) * kBlock);
          PutBlock::run(products, to, o, x);
        }
      }
      if (to.channel != 1) ConvolutionBand::put_planes(to);
      first += to.blocks;
    }
  }

 private:
  const Layer& layer_;
  const Features& tensors_;
  bool rectified_;
  int64_t products_, planes_;
};

inline void run(const ConvolutionWork& work) {
  parallel_supply(work.tiling.count(), 1, [&](Supply& supply) {
    thread_local Workspace workspace;
    Offsets offsets;
    PixelRing ring(work.sources, nullptr, offsets);
    const Outputs writer(work.layer, work.results, work.rectified, offsets);
    float* const memory = workspace.take(offsets);
    const MatrixUnit unit;
    for (int64_t i, end; supply.take(i, end);) {
      const Tile tile = work.tiling[i];
      ring.begin(tile, memory);
      for (int64_t y = tile.y; y < tile.y + tile.rows; y += kBandRows) writer.band(tile, y, ring.rows(y), memory);
    }
  });
}

// Sums of gradients of a region's weights and bias.
class ParameterSums {
 public:
  ParameterSums(const ConvolutionGradientWork& work, Offsets& offsets)
      : work_(work),
        values_(work.sources, work.parameters, offsets),
        outputs_(static_cast<int>(work.slopes[0].channels)),
        blocks_(blocks_of(outputs_)) {
    if (!work.parameters) return;
    gradients_ = take_bfloat16(offsets, int64_t{kBandRows} * blocks_ * kChunks * kMatrix);
    weight_ = offsets.take(int64_t{blocks_} * values_.blocks() * 9 * kSquare);
    bias_ = offsets.take(int64_t{blocks_} * kSquare);
  }

  void begin(float* memory) {
    if (!work_.parameters) return;
    memory_ = memory;
    std::fill_n(memory + weight_, int64_t{blocks_} * values_.blocks() * 9 * kSquare, 0.0f);
    std::fill_n(memory + bias_, int64_t{blocks_} * kSquare, 0.0f);
  }

  void begin_run(GradientSums& sums) const {
    if (!work_.parameters) return;
    sums.weight.assign(channels_of(work_.sources) * outputs_ * 9, 0.0), sums.bias.assign(outputs_, 0.0);
  }

  void begin_tile(const Tile& tile) { values_.begin(tile, memory_); }

  // pixels: rows y - 1 to y + 4 of the gradient.
  void band(const Tile& tile, int64_t y, const BFloat16* const (&pixels)[6]) {
    if (!work_.parameters) return;
    const int columns = columns_of(tile), chunks = columns / MatrixGradient::kChunk;
    values_.read(y);
    BFloat16* const planes = bfloat16_at(memory_, gradients_);
    const int64_t block = int64_t{chunks} * kMatrix, row = blocks_ * block;
    for (int r = 0; r < kBandRows; ++r) {
      MatrixGradient::plane_gradients(pixels[r + 1], blocks_, columns, planes + r * row);
    }
    for (int o = 0; o < blocks_; ++o) {
      const BFloat16* const own = planes + o * block;
      const BFloat16* const gradients[kBandRows] = {own, own + row, own + 2 * row, own + 3 * row};
      for (int i = 0; i < values_.blocks(); ++i) {
        const BFloat16* values[6];
        for (int r = 0; r < 6; ++r) values[r] = values_.at(y - 1 + r, i);
        MatrixGradient::add(values, gradients, chunks,
                            memory_ + weight_ + (int64_t{o} * values_.blocks() + i) * 9 * kSquare);
      }
      MatrixGradient::add_bias(gradients, chunks, memory_ + bias_ + int64_t{o} * kSquare);
    }
  }

  void end_tile(GradientSums& sums) const {
    if (!work_.parameters) return;
    add_matrix_region(work_.places, outputs_, values_.blocks(), memory_ + weight_, memory_ + bias_, sums);
  }

 private:
  static constexpr int kSquare = kBlock * kBlock, kChunks = kRegionColumns / MatrixGradient::kChunk;

  const ConvolutionGradientWork& work_;
  PairRing values_;
  int outputs_, blocks_;
  int64_t gradients_ = 0, weight_ = 0, bias_ = 0;
  float* memory_ = nullptr;
};

inline void run_backward(const ConvolutionGradientWork& work) {
  const int64_t runs = static_cast<int64_t>(work.sums.size());
  parallel_supply(runs, 1, [&](Supply& supply) {
    thread_local Workspace workspace;
    Offsets offsets;
    PixelRing gradients(work.slopes, work.output, offsets);
    const Outputs writer(work.turned, work.grad_sources, false, offsets);
    ParameterSums parameters(work, offsets);
    float* const memory = workspace.take(offsets);
    const MatrixUnit unit;
    parameters.begin(memory);
    for (int64_t run, end; supply.take(run, end);) {
      parameters.begin_run(work.sums[run]);
      for (int64_t i = work.tiling.count() * run / runs; i < work.tiling.count() * (run + 1) / runs; ++i) {
        const Tile tile = work.tiling[i];
        gradients.begin(tile, memory), parameters.begin_tile(tile);
        for (int64_t y = tile.y; y < tile.y + tile.rows; y += kBandRows) {
          const auto* const rows = gradients.rows(y);
          if (!work.grad_sources.empty()) writer.band(tile, y, rows, memory);
          parameters.band(tile, y, rows[0]);
        }
        parameters.end_tile(work.sums[run]);
      }
    }
  });
}

}  // namespace zdce::ZDCE_TARGET::matrix_convolution

#endif
