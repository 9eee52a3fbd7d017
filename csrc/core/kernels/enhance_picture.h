// enhance_picture on the CPU: an interleaved picture to an interleaved picture, each read and written once; curve maps
// are interpolated in registers.
//
// uint8: 3 bytes read and 3 written a pixel; maps of scale s add 12 T / s^2. What is left is arithmetic: three fused
// multiply-adds a step and colour, one for the map and two for the curve.
#pragma once

#include "../luma.h"
#include "pixels.h"
#include "runs.h"

namespace zdce::ZDCE_TARGET::enhance_picture {

// A block is kBlockColumns wide, of the rows between two rows of the maps: the 2 x 24 expanded map rows take at most 15
// KB of L1 and serve every row of the block.
constexpr int kBlockRows = 24;

// Runs of equal map columns are written in whole vectors, past their end.
constexpr int kExpanded = kBlockColumns + kRegisterLanes;

// A tile is a row of blocks that share what was made of the maps: 1024 columns of the picture, as many or fewer of the
// maps, and one more, rounded up.
constexpr int kTileColumns = 1024;
constexpr int kMapPitch = kTileColumns + 2 * kRegisterLanes;

struct Block {
  int rows, maps, iterations;
  float strength;  // of guided maps, which are not multiplied before they are interpolated
  const char* from;
  int64_t from_stride;
  char* to;
  int64_t to_stride;
  const float* upper;       // map k's row above, at k * kMapPitch
  const float* difference;  // the row below less the row above, likewise
  const float* row_weights;
  const float* column_weights;
  const int* columns;  // of the maps, left of each pixel
  int first;           // the one where upper and difference begin
  float* expanded;     // (2, maps, kExpanded): upper and difference at every column
  void* pixels;        // (kBlockRows) unpacked rows
};

// Maps as the curve takes them: of logits the tanh, times the strength, within [-1, 1].
struct Activate {
  ZDCE_INLINE static void run(const float* const* from, int maps, int n, bool logits, float strength, float* to) {
    if (maps == kGuidedMaps) {
      for (int k = 0; k < maps; ++k) std::memcpy(to + k * kMapPitch, from[k], static_cast<size_t>(n) * sizeof(float));
      return;
    }
    for (int k = 0; k < maps; ++k) {
      int i = 0;
      for (; i + kRegisterLanes <= n; i += kRegisterLanes)
        lanes(from[k] + i, kRegisterLanes, logits, strength, to + k * kMapPitch + i);
      if (i < n) lanes(from[k] + i, n - i, logits, strength, to + k * kMapPitch + i);
    }
  }

  ZDCE_INLINE static void lanes(const float* from, int n, bool logits, float strength, float* to) {
    Register a = load(from, n);
    if (logits) a = hyperbolic_tangent(a);
    store_register(to, within(strength * a, 1.0f));
  }
};

struct Subtract {
  ZDCE_INLINE static void run(const float* upper, int maps, int n, float* lower) {
    for (int k = 0; k < maps; ++k) {
      for (int i = 0; i < n; i += kRegisterLanes) {
        float* const to = lower + k * kMapPitch + i;
        store_register(to, load_register(to) - load_register(upper + k * kMapPitch + i));
      }
    }
  }
};

// kTogether rows go side by side. A step is two dependent multiply-adds of four cycles each, and two start in a cycle:
// eight registers of pixels must be under way, which are two rows with AVX-512, one with AVX2, and half of one
// elsewhere.
template <class E, bool kInterpolated>
struct EnhanceBlock {
  static constexpr bool kWide = ZDCE_REGISTER_BYTES == 64;
  static constexpr int kTogether = kInterpolated && kWide ? 2 : 1;
  // Groups of a row that go side by side, in all three colours, where one map serves these.
  static constexpr int kGuided = 4;

  ZDCE_INLINE static void run(const Block* block) {
    Row<E>* const rows = static_cast<Row<E>*>(block->pixels);
    for (int y = 0; y < block->rows; ++y) {
      const char* const from = block->from + y * block->from_stride;
      rows[y].unpack(from);
      fetch_ahead(from), fetch_ahead(block->to + y * block->to_stride);
    }
    if constexpr (kInterpolated) expand(*block);
    int y = 0;
    for (; y + kTogether <= block->rows; y += kTogether) colors<kTogether>(*block, y, rows + y);
    for (; y < block->rows; ++y) colors<1>(*block, y, rows + y);
    for (y = 0; y < block->rows; ++y) rows[y].pack(block->to + y * block->to_stride);
  }

  // The block to the right, while this one is worked on: rows are too short a run for the processor to see it coming.
  ZDCE_INLINE static void fetch_ahead(const char* row) {
    constexpr int bytes = 3 * kBlockColumns * static_cast<int>(sizeof(E));
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch(row + bytes + i);
  }

  // From the columns of the maps to those of the block, upper rows and differences.
  ZDCE_INLINE static void expand(const Block& block) {
#if ZDCE_REGISTER_BYTES == 64
    for (int i = 0; i < kBlockColumns; i += kRegisterLanes) {
      Ints columns;
      std::memcpy(&columns, block.columns + i, sizeof(columns));
      const int first = block.columns[i];
      expand(block, first - block.first, i,
             [&](const float* from) { return permuted(load_register(from), columns - first); });
    }
#else
    // Runs of pixels between the same two columns, written in whole vectors, the next over what is too much.
    for (int i = 0; i < kBlockColumns;) {
      const int column = block.columns[i];
      int end = i + 1;
      while (end < kBlockColumns && block.columns[end] == column) ++end;
      for (; i < end; i += kRegisterLanes) {
        expand(block, column - block.first, i, [](const float* from) { return Register{} + *from; });
      }
      i = end;
    }
#endif
  }

  // pick gives the values at the left of each pixel; those at the right are one column further.
  template <class Pick>
  ZDCE_INLINE static void expand(const Block& block, int column, int i, const Pick& pick) {
    const Register weight = load_register(block.column_weights + i);
    for (int k = 0; k < block.maps; ++k) {
      for (int part = 0; part < 2; ++part) {
        const float* const from = (part == 0 ? block.upper : block.difference) + k * kMapPitch + column;
        const Register left = pick(from);
        store_register(block.expanded + (2 * k + part) * kExpanded + i, left + weight * (pick(from + 1) - left));
      }
    }
  }

  template <int kNumber>
  ZDCE_INLINE static void colors(const Block& block, int y, Row<E>* rows) {
    Register weights[kNumber] = {};
    if constexpr (kInterpolated) {
      for (int j = 0; j < kNumber; ++j) weights[j] += block.row_weights[y + j];
    }
    if (block.maps == kGuidedMaps) return guided<kNumber>(block, weights, rows);
    curve<kNumber>(block, weights, 0, rows);
    curve<kNumber>(block, weights, 1, rows);
    curve<kNumber>(block, weights, 2, rows);
  }

  // One map for the three colours and all steps: a * luma + b within [-1, 0], times the strength.
  template <int kNumber>
  ZDCE_INLINE static void guided(const Block& block, const Register (&weights)[kNumber], Row<E>* rows) {
    for (int j = 0; j < kNumber; ++j) {
      for (int g = 0; g < kBlockGroups; g += kGuided) guided(block, weights[j], g, rows[j]);
    }
  }

  // kGuided groups of one row from group `first` on.
  ZDCE_INLINE static void guided(const Block& block, Register weight, int first, Row<E>& row) {
    Register x[3][kGuided], a[kGuided];
    for (int g = 0; g < kGuided; ++g) {
      for (int c = 0; c < 3; ++c) x[c][g] = row.get(c, first + g);
      const Register y = luma(x[0][g], x[1][g], x[2][g]);
      a[g] = coefficient(block, weight, 0, first + g) * y + coefficient(block, weight, 1, first + g);
      a[g] = within(block.strength * larger(Register{} - 1.0f, smaller(Register{}, a[g])), 1.0f);
    }
    for (int t = 0; t < block.iterations; ++t) {
      for (int c = 0; c < 3; ++c) {
        for (int g = 0; g < kGuided; ++g) x[c][g] = step(x[c][g], a[g]);
      }
    }
    for (int c = 0; c < 3; ++c) {
      for (int g = 0; g < kGuided; ++g) row.put(c, first + g, x[c][g]);
    }
  }

  // Coefficient k of group g's pixels.
  ZDCE_INLINE static Register coefficient(const Block& block, Register weight, int k, int g) {
    if constexpr (kInterpolated) {
      const float* const at = block.expanded + 2 * k * kExpanded + g * kRegisterLanes;
      return load_register(at) + weight * load_register(at + kExpanded);
    } else {
      return load_register(block.upper + k * kMapPitch + g * kRegisterLanes);
    }
  }

  template <int kNumber>
  ZDCE_INLINE static void curve(const Block& block, const Register (&weights)[kNumber], int c, Row<E>* rows) {
    Register x[kNumber][kBlockGroups];
    for (int j = 0; j < kNumber; ++j) {
      for (int g = 0; g < kBlockGroups; ++g) x[j][g] = rows[j].get(c, g);
    }
    for (int t = 0; t < block.iterations; ++t) {
      const int k = block.maps == 3 ? c : 3 * t + c;
      for (int g = 0; g < kBlockGroups; ++g) {
        if constexpr (kInterpolated) {
          const float* const at = block.expanded + 2 * k * kExpanded + g * kRegisterLanes;
          const Register upper = load_register(at), difference = load_register(at + kExpanded);
          for (int j = 0; j < kNumber; ++j) x[j][g] = step(x[j][g], upper + weights[j] * difference);
        } else {
          const Register a = load_register(block.upper + k * kMapPitch + g * kRegisterLanes);
          for (int j = 0; j < kNumber; ++j) x[j][g] = step(x[j][g], a);
        }
      }
    }
    for (int j = 0; j < kNumber; ++j) {
      for (int g = 0; g < kBlockGroups; ++g) rows[j].put(c, g, x[j][g]);
    }
  }
};

// Rows begin to end of the picture lie between the same two rows of the maps.
struct Band {
  int64_t begin, end;
};

std::vector<Band> bands(const Axis& rows, int64_t height) {
  std::vector<Band> bands;
  for (int64_t y = 0; y < height; ++y) {
    if (bands.empty() || rows.first[y] != rows.first[bands.back().begin] || y - bands.back().begin == kBlockRows) {
      bands.push_back({y, y});
    }
    bands.back().end = y + 1;
  }
  return bands;
}

template <class E>
struct Workspace {
  alignas(64) float fetched[kMaxMaps * kMapPitch], upper[kMaxMaps * kMapPitch], difference[kMaxMaps * kMapPitch];
  alignas(64) float expanded[2 * kMaxMaps * kExpanded] = {};
  Row<E> pixels[kBlockRows];
  E from[kBlockRows][3 * kBlockColumns] = {},
                         to[kBlockRows][3 * kBlockColumns];  // of a block that the picture's border cuts
};

template <class E>
class TileOfBlocks {
 public:
  TileOfBlocks(const Enhancement& work, Band band, int64_t x, Workspace<E>& space)
      : work_(work), band_(band), x_(x), end_(std::min(x + kTileColumns, work.picture.width)), space_(space) {}

  void run() {
    prepare_maps();
    for (int64_t x = x_; x < end_; x += kBlockColumns)
      enhance(x, static_cast<int>(std::min<int64_t>(kBlockColumns, end_ - x)));
  }

 private:
  void prepare_maps() {
    const int64_t last = work_.maps.width - 1, y = work_.rows.first[band_.begin];
    first_ = work_.columns.first[x_];
    const int n = static_cast<int>(std::min<int64_t>(last, work_.columns.first[end_ - 1] + 1) - first_ + 1);
    activate(y, n, space_.upper);
    if (!work_.interpolated) return;
    activate(std::min(y + 1, work_.maps.height - 1), n, space_.difference);
    Subtract::run(static_cast<const float*>(space_.upper), static_cast<int>(work_.maps.channels), n + 1,
                  static_cast<float*>(space_.difference));
  }

  // The column after the last repeats it: what the border clamps has no slope.
  void activate(int64_t y, int n, float* to) {
    const float* from[kMaxMaps];
    const int maps = static_cast<int>(work_.maps.channels);
    fetch(work_.maps, {0, 0, maps, y, first_, n}, space_.fetched, kMapPitch, from);
    Activate::run(static_cast<const float* const*>(from), maps, n, work_.logits, work_.strength, to);
    for (int k = 0; k < maps; ++k) to[k * kMapPitch + n] = to[k * kMapPitch + n - 1];
  }

  void enhance(int64_t x, int n) {
    const int rows = static_cast<int>(band_.end - band_.begin);
    const Picture &from = work_.picture, &to = work_.enhanced;
    const int64_t offset = 3 * x * static_cast<int64_t>(sizeof(E)), bytes = 3 * n * static_cast<int64_t>(sizeof(E));
    Block block{rows,
                static_cast<int>(work_.maps.channels),
                work_.iterations,
                work_.strength,
                from.row(band_.begin) + offset,
                from.row_stride * static_cast<int64_t>(sizeof(E)),
                to.row(band_.begin) + offset,
                to.row_stride * static_cast<int64_t>(sizeof(E)),
                space_.upper + (work_.interpolated ? 0 : x - x_),
                space_.difference,
                work_.rows.weight.data() + band_.begin,
                work_.columns.weight.data() + x,
                work_.columns.first.data() + x,
                static_cast<int>(first_),
                space_.expanded,
                space_.pixels};
    if (n == kBlockColumns) return compute(block);
    for (int y = 0; y < rows; ++y) std::memcpy(space_.from[y], block.from + y * block.from_stride, bytes);
    block.from = reinterpret_cast<const char*>(space_.from), block.to = reinterpret_cast<char*>(space_.to);
    block.from_stride = block.to_stride = sizeof(space_.from[0]);
    compute(block);
    for (int y = 0; y < rows; ++y) std::memcpy(to.row(band_.begin + y) + offset, space_.to[y], bytes);
  }

  void compute(const Block& block) {
    const Block* const address = &block;
    if (!work_.interpolated) return EnhanceBlock<E, false>::run(address);
    EnhanceBlock<E, true>::run(address);
  }

  const Enhancement& work_;
  const Band band_;
  const int64_t x_, end_;
  Workspace<E>& space_;
  int64_t first_ = 0;
};

template <class E>
void enhance(const Enhancement& work) {
  const std::vector<Band> all = bands(work.rows, work.picture.height);
  const int64_t across = (work.picture.width + kTileColumns - 1) / kTileColumns;
  parallel_for(static_cast<int64_t>(all.size()) * across, 1, [&](int64_t begin, int64_t end) {
    const auto space = std::unique_ptr<Workspace<E>>(new Workspace<E>);
    for (int64_t i = begin; i < end; ++i) {
      TileOfBlocks<E>(work, all[i / across], i % across * kTileColumns, *space).run();
    }
  });
}

// picture, enhanced: (H, W, 3), interleaved, of one element type; maps: (1, 3 T, 3 or 2, h, w).
inline void run(const Enhancement& work) {
  with_pixel(work.picture.element, [&](auto element) { enhance<decltype(element)>(work); });
}

}  // namespace zdce::ZDCE_TARGET::enhance_picture
