// The objective's statistics on the CPU: tanh, curve, region means, channel means and squared differences in one pass
// over image and logits, and one pass back.
#pragma once

#include "each_tile.h"

namespace zdce::ZDCE_TARGET::objective_statistics {

constexpr int kRegion = kObjectiveRegion;

// Two neighbouring rows of tanh values must stay in the second-level cache: 24 maps x 2 rows x 1024 columns x 4 bytes
// are 192 KB. A row of 1024 floats is one page of memory in each plane; with narrower tiles every row would touch new
// pages for only a part of them, and images wider than a tile took half as long again. The tanh of the row above a tile
// (in backward: also below) is computed twice: 1 row in 64.
constexpr int kTileRows = 64;
constexpr int kTileColumns = 1024;

// A row in scratch: the tile's columns begin at kLead, with their neighbours before and after them, and room for whole
// vectors.
constexpr int kLead = 16;
constexpr int kRowPitch = kLead + kTileColumns + 16;

template <class C>
using Rows = C[kMaxMaps * kRowPitch];

// tanh of a row of logits.
template <class C>
struct TanhRow {
  ZDCE_INLINE static void run(const C* const* logits, int maps, int n, C* to) {
    for (int k = 0; k < maps; ++k) {
      int i = 0;
      for (; i + kLanes<C> <= n; i += kLanes<C>) {
        store(to + k * kRowPitch + i, hyperbolic_tangent(load(logits[k] + i, kLanes<C>)), kLanes<C>);
      }
      if (i < n) store(to + k * kRowPitch + i, hyperbolic_tangent(load(logits[k] + i, n - i)), n - i);
    }
  }
};

// tanh of column i of a row of logits, in all maps at once.
template <class C>
struct TanhColumn {
  ZDCE_INLINE static void run(const C* const* logits, int maps, int i, C* to) {
    for (int k = 0; k < maps; k += kLanes<C>) {
      const int n = std::min(kLanes<C>, maps - k);
      Lanes<C> a{};
      for (int j = 0; j < n; ++j) a[j] = logits[k + j][i];
      a = hyperbolic_tangent(a);
      for (int j = 0; j < n; ++j) to[(k + j) * kRowPitch + i] = a[j];
    }
  }
};

// One row of a tile, n columns.
template <class C>
struct ForwardRow {
  int n, pairs;  // pairs: columns that have a right neighbour in the image
  int iterations;
  bool shared;
  bool along_x, along_y;  // whether to count differences along x in the row above, and between that row and this
  const C* image[3];
  const C* logits[kMaxMaps];
  int64_t next_row;     // of the logits
  C* above;             // tanh of the row above, including column n (the tile's right neighbour); becomes this row's
  C* image_columns;     // sums over RGB and the rows of a region
  C* enhanced_columns;  // the same of the enhanced image
  double* channels;     // sums of the enhanced image, per colour
  double* tv;           // sums of squared differences along y, along x
};

template <class C>
struct Forward {
  struct Sums {
    Lanes<C> channel, along_y, along_x;
  };

  // Float32: 12 + 12 T bytes read a pixel, 108 for T = 8; nothing image-sized is written.
  ZDCE_INLINE static void run(const ForwardRow<C>* row) {
    for (int c = 0; c < 3; ++c) {
      Sums sums{};
      int i = 0;
      for (; i + kLanes<C> <= row->pairs; i += kLanes<C>) lanes<false>(*row, c, i, sums);
      for (; i < row->n; i += kLanes<C>) lanes<true>(*row, c, i, sums);
      // Added to a double after each row: a float lane sums at most 256 columns of T maps, whatever the image's size.
      row->channels[c] += total<C>(sums.channel);
      if (row->along_y) row->tv[0] += total<C>(sums.along_y);
      if (row->along_x) row->tv[1] += total<C>(sums.along_x);
    }
  }

  template <bool kLast>
  ZDCE_INLINE static void lanes(const ForwardRow<C>& row, int c, int i, Sums& sums) {
    const int n = kLast ? std::min(kLanes<C>, row.n - i) : kLanes<C>;
    const Lanes<C> inside = kLast ? ones<C>(n) : Lanes<C>{};
    const Lanes<C> paired = kLast ? ones<C>(row.pairs - i) : Lanes<C>{};
    Lanes<C> x = load(row.image[c] + i, n);  // 0 past the last column, which stays 0
    add(row.image_columns + i, x);
    Lanes<C> a{};
    for (int t = 0; t < (row.shared ? 1 : row.iterations); ++t) {
      C* const above = row.above + (3 * t + c) * kRowPitch + i;
      const Lanes<C> up = load(above, kLanes<C>), up_right = load(above + 1, kLanes<C>);
      const C* const logits = row.logits[3 * t + c] + i;
      if (i % kLine<C> == 0) prefetch(logits + row.next_row);
      a = hyperbolic_tangent(load(logits, n));
      Lanes<C> dy = a - up, dx = up_right - up;
      if (kLast) dy *= inside, dx *= paired;
      sums.along_y += dy * dy;
      sums.along_x += dx * dx;
      store(above, a, kLanes<C>);
      x = step(x, a);
    }
    if (row.shared) {
      for (int t = 1; t < row.iterations; ++t) x = step(x, a);
    }
    add(row.enhanced_columns + i, x);
    sums.channel += x;
  }

  ZDCE_INLINE static void add(C* to, Lanes<C> x) { store(to, load(to, kLanes<C>) + x, kLanes<C>); }
};

// Squared differences along x of a row of tanh values.
template <class C>
struct AlongX {
  ZDCE_INLINE static void run(const C* row, int maps, int pairs, double* sum) {
    for (int k = 0; k < maps; ++k) {
      const C* a = row + k * kRowPitch;
      Lanes<C> squares{};
      int i = 0;
      for (; i < pairs; i += kLanes<C>) {
        Lanes<C> dx = load(a + i + 1, kLanes<C>) - load(a + i, kLanes<C>);
        if (i + kLanes<C> > pairs) dx *= ones<C>(pairs - i);
        squares += dx * dx;
      }
      *sum += total<C>(squares);
    }
  }
};

// One row of a tile in backward, n columns, with the tanh values of this row and of its neighbours.
template <class C>
struct BackwardRow {
  int n, iterations;
  bool shared;
  bool below;        // the image has a row below
  bool past_caches;  // whether the gradient is stored past the caches
  const C* image[3];
  const C* logits[kMaxMaps];  // of the row below
  int64_t next_row;           // of the logits
  const C* current;           // tanh of this row, columns -1 and n included
  C* other;                   // tanh of the row above; becomes that of the row below
  const C* grad_columns;      // gradient of each pixel's RGB mean, through the region means
  C grad_channels[3];         // gradient of each pixel, through the channel means
  C grad_along_y, grad_along_x;
  C* grad_logits[kMaxMaps];
};

template <class C>
struct Backward {
  // Float32: 12 + 12 T bytes read and 12 T written a pixel, 204 for T = 8; everything else is computed again.
  ZDCE_INLINE static void run(const BackwardRow<C>* row) {
    for (int c = 0; c < 3; ++c) {
      each_line<C>(row->n, [&](int i, auto registers, int n) ZDCE_INLINE_LAMBDA { columns<registers>(*row, c, i, n); });
    }
  }

  template <int kRegisters>
  ZDCE_INLINE static void columns(const BackwardRow<C>& row, int c, int i, int n) {
    Lanes<C> xs[kMaxIterations][kRegisters], x[kRegisters], g[kRegisters], grad_map[kRegisters] = {};
    for (int r = 0; r < kRegisters; ++r) {
      const int at = i + r * kLanes<C>;
      x[r] = load(row.image[c] + at, n);
      g[r] = load(row.grad_columns + at, kLanes<C>) + row.grad_channels[c];
    }
    const C* const maps = row.current + c * kRowPitch + i;  // of the first step
    const int64_t next = row.shared ? 0 : 3 * kRowPitch;
    for (int t = 0; t < row.iterations; ++t) {
      for (int r = 0; r < kRegisters; ++r) {
        xs[t][r] = x[r];
        x[r] = step(x[r], load(maps + t * next + r * kLanes<C>, kLanes<C>));
      }
    }
    for (int t = row.iterations - 1; t >= 0; --t) {
      const int k = 3 * t + c;
      if (!row.shared) prefetch(row.logits[k] + i + row.next_row);
      for (int r = 0; r < kRegisters; ++r) {
        const Lanes<C> a = load(maps + t * next + r * kLanes<C>, kLanes<C>), slope = g[r] * step_da(xs[t][r]);
        if (row.shared) {
          grad_map[r] += slope;
        } else {
          finish(row, k, i + r * kLanes<C>, n, a, slope);
        }
        g[r] = g[r] * step_dx(xs[t][r], a);
      }
    }
    if (!row.shared) return;
    prefetch(row.logits[c] + i + row.next_row);
    for (int r = 0; r < kRegisters; ++r) {
      finish(row, c, i + r * kLanes<C>, n, load(maps + r * kLanes<C>, kLanes<C>), grad_map[r]);
    }
  }

  // The gradient of the logits from that of the map. At the image's border the pixel itself stands for its neighbour.
  ZDCE_INLINE static void finish(const BackwardRow<C>& row, int k, int i, int n, Lanes<C> a, Lanes<C> grad_map) {
    const C* const current = row.current + k * kRowPitch + i;
    C* const other = row.other + k * kRowPitch + i;
    const Lanes<C> left = load(current - 1, kLanes<C>), right = load(current + 1, kLanes<C>);
    const Lanes<C> up = load(other, kLanes<C>);
    const Lanes<C> down = row.below ? hyperbolic_tangent(load(row.logits[k] + i, n)) : a;
    store(other, down, kLanes<C>);
    grad_map += row.grad_along_y * ((a - up) + (a - down)) + row.grad_along_x * ((a - left) + (a - right));
    store(row.grad_logits[k] + i, grad_map * (1 - a * a), n, row.past_caches);
  }
};

template <class C>
struct ForwardWorkspace {
  alignas(64) Rows<C> logits, above;
  alignas(64) C image[3 * kRowPitch], image_columns[kRowPitch], enhanced_columns[kRowPitch];
};

template <class C>
struct BackwardWorkspace {
  alignas(64) Rows<C> logits, a, b, grad_logits;
  alignas(64) C image[3 * kRowPitch], grad_columns[kRowPitch];
};

// Clears rows of `maps` maps from column `first` to the end of the last vector of n columns: whole vectors are read
// there, and must be finite.
template <class C>
void clear_from(C* row, int maps, int first, int n) {
  const int end = (n + kLanes<C> - 1) / kLanes<C> * kLanes<C> + 1;
  for (int k = 0; k < maps; ++k) std::fill(row + k * kRowPitch + first, row + k * kRowPitch + end, C{0});
}

inline Piece piece(const Planes& t, const Tile& tile, int64_t y, int64_t x, int n) {
  return {tile.b, 0, t.channels, y, x, n};
}

struct Partial {
  double channels[3], tv[2];
};

// Means of the row of regions that ends with image row y, from sums over columns.
template <class C>
void put_regions(const Tile& tile, int64_t y, int64_t height, int64_t width, const C* columns, C* means) {
  const int64_t first = tile.x / kRegion, across = width / kRegion;
  C* const to = means + (tile.b * (height / kRegion) + y / kRegion) * across;
  for (int64_t r = first; r < std::min(across, first + (tile.n + kRegion - 1) / kRegion); ++r) {
    const C* const from = columns + (r - first) * kRegion;
    to[r] = ((from[0] + from[1]) + (from[2] + from[3])) / (3 * kRegion * kRegion);
  }
}

template <class C>
void forward(const Planes& image, const Planes& logits, int iterations, C* regions_to, C* gaps_to, C* channels_to,
             C* tv_to) {
  const int64_t height = image.height, width = image.width;
  const int maps = static_cast<int>(logits.channels);
  const Tiling tiling{image.batch, height, width, kTileRows, kTileColumns};
  std::vector<Partial> partials(tiling.count());

  for_each_tile<ForwardWorkspace<C>>(tiling, values_of(logits), [&](const Tile& tile, ForwardWorkspace<C>& space) {
    Partial partial{};
    const int right = tile.x + tile.n < width;  // a column to the right of the tile
    ForwardRow<C> row;
    row.n = tile.n, row.pairs = tile.n - 1 + right;
    row.iterations = iterations, row.shared = maps == 3;
    row.next_row = next_row<C>(logits);
    row.above = space.above;
    row.image_columns = space.image_columns, row.enhanced_columns = space.enhanced_columns;
    row.channels = partial.channels, row.tv = partial.tv;
    clear_from(row.above, maps, tile.y > 0 ? tile.n : 0, tile.n);
    if (tile.y > 0) {
      fetch(logits, piece(logits, tile, tile.y - 1, tile.x, tile.n), space.logits, kRowPitch, row.logits);
      TanhRow<C>::run(static_cast<const C* const*>(row.logits), maps, tile.n, row.above);
    }
    for (int64_t y = tile.y; y < tile.y + tile.rows; ++y) {
      if (y % kRegion == 0) {
        std::fill_n(space.image_columns, kRowPitch, C{0});
        std::fill_n(space.enhanced_columns, kRowPitch, C{0});
      }
      fetch(image, piece(image, tile, y, tile.x, tile.n), space.image, kRowPitch, row.image);
      fetch(logits, piece(logits, tile, y, tile.x, tile.n + right), space.logits, kRowPitch, row.logits);
      row.along_x = y > tile.y, row.along_y = y > 0;
      Forward<C>::run(static_cast<const ForwardRow<C>*>(&row));
      if (right) {
        TanhColumn<C>::run(static_cast<const C* const*>(row.logits), maps, tile.n, row.above);
      }
      if (y % kRegion == kRegion - 1) {
        put_regions(tile, y, height, width, space.enhanced_columns, regions_to);
        C* const gap_columns = space.image_columns;
        for (int i = 0; i < kRowPitch; ++i) gap_columns[i] = space.enhanced_columns[i] - gap_columns[i];
        put_regions(tile, y, height, width, gap_columns, gaps_to);
      }
    }
    AlongX<C>::run(static_cast<const C*>(row.above), maps, row.pairs, partial.tv + 1);
    partials[tile.index] = partial;
  });

  double tv[2] = {0, 0};
  for (int64_t b = 0; b < image.batch; ++b) {
    double channels[3] = {0, 0, 0};
    for (int64_t i = b * tiling.per_image(); i < (b + 1) * tiling.per_image(); ++i) {
      for (int c = 0; c < 3; ++c) channels[c] += partials[i].channels[c];
      for (int d = 0; d < 2; ++d) tv[d] += partials[i].tv[d];
    }
    for (int c = 0; c < 3; ++c) channels_to[3 * b + c] = static_cast<C>(channels[c] / (height * width));
  }
  for (int d = 0; d < 2; ++d) tv_to[d] = static_cast<C>(tv[d]);
}

// The tanh values of row y with both neighbouring columns.
template <class C>
void fill_row(const Planes& logits, const Tile& tile, int64_t y, C* scratch, const C** blocks, C* to) {
  const int left = tile.x > 0, right = tile.x + tile.n < logits.width;
  fetch(logits, piece(logits, tile, y, tile.x - left, left + tile.n + right), scratch, kRowPitch, blocks);
  for (int k = 0; k < logits.channels; ++k) blocks[k] += left;
  if (to != nullptr) {
    TanhRow<C>::run(static_cast<const C* const*>(blocks), static_cast<int>(logits.channels), tile.n, to);
  }
}

// Columns -1 and n of a row: the neighbours' values or, at the image's border, the row's own.
template <class C>
void fill_edges(const Planes& logits, const Tile& tile, const C* const* blocks, C* to) {
  const int maps = static_cast<int>(logits.channels);
  if (tile.x > 0) {
    TanhColumn<C>::run(blocks, maps, -1, to);
  } else {
    for (int k = 0; k < maps; ++k) to[k * kRowPitch - 1] = to[k * kRowPitch];
  }
  if (tile.x + tile.n < logits.width) {
    TanhColumn<C>::run(blocks, maps, tile.n, to);
  } else {
    for (int k = 0; k < maps; ++k) to[k * kRowPitch + tile.n] = to[k * kRowPitch + tile.n - 1];
  }
}

// The gradient of each column's pixels in the row of regions that begins with image row y; 0 in the incomplete border.
template <class C>
void expand_regions(const Tile& tile, int64_t y, int64_t height, int64_t width, const C* grads, C* columns) {
  std::fill_n(columns, kRowPitch, C{0});
  if (y / kRegion >= height / kRegion) return;
  const int64_t first = tile.x / kRegion, across = width / kRegion;
  const C* const from = grads + (tile.b * (height / kRegion) + y / kRegion) * across;
  for (int64_t r = first; r < std::min(across, first + (tile.n + kRegion - 1) / kRegion); ++r) {
    std::fill_n(columns + (r - first) * kRegion, kRegion, from[r] / (3 * kRegion * kRegion));
  }
}

template <class C>
void backward(const C* regions, const C* channels, const C* tv, const Planes& image, const Planes& logits,
              int iterations, const Planes& grad_logits) {
  const int64_t height = image.height, width = image.width;
  const int maps = static_cast<int>(logits.channels);

  const Tiling tiling{image.batch, height, width, kTileRows, kTileColumns};
  for_each_tile<BackwardWorkspace<C>>(tiling, values_of(logits), [&](const Tile& tile, BackwardWorkspace<C>& space) {
    C *current = space.a + kLead, *other = space.b + kLead;
    clear_from(current, maps, tile.n, tile.n), clear_from(other, maps, tile.n, tile.n);
    BackwardRow<C> row;
    row.n = tile.n, row.iterations = iterations, row.shared = maps == 3;
    row.next_row = next_row<C>(logits);
    row.grad_columns = space.grad_columns, row.past_caches = past_caches<C>(grad_logits);
    for (int c = 0; c < 3; ++c) row.grad_channels[c] = channels[3 * tile.b + c] / static_cast<C>(height * width);
    row.grad_along_y = 2 * tv[0], row.grad_along_x = 2 * tv[1];

    if (tile.y > 0) fill_row(logits, tile, tile.y - 1, space.logits, row.logits, other);
    fill_row(logits, tile, tile.y, space.logits, row.logits, current);
    fill_edges(logits, tile, row.logits, current);
    if (tile.y == 0) {
      for (int k = 0; k < maps; ++k) std::copy_n(current + k * kRowPitch, tile.n, other + k * kRowPitch);
    }

    for (int64_t y = tile.y; y < tile.y + tile.rows; ++y) {
      if (y % kRegion == 0) {
        expand_regions(tile, y, height, width, regions, space.grad_columns);
      }
      fetch(image, piece(image, tile, y, tile.x, tile.n), space.image, kRowPitch, row.image);
      row.below = y + 1 < height;
      if (row.below) fill_row<C>(logits, tile, y + 1, space.logits, row.logits, nullptr);
      const Piece here = piece(grad_logits, tile, y, tile.x, tile.n);
      target(grad_logits, here, space.grad_logits, kRowPitch, row.grad_logits);
      row.current = current, row.other = other;
      Backward<C>::run(static_cast<const BackwardRow<C>*>(&row));
      put(grad_logits, here, space.grad_logits, kRowPitch);
      if (row.below) fill_edges(logits, tile, static_cast<const C* const*>(row.logits), other);
      std::swap(current, other);
    }
  });
}

// image: (B, 3, H, W); logits: (B, 3 T or 3, H, W). Written, of double where one of the two is, else float:
// enhanced_regions, gaps: (B, H / 4, W / 4), the second the differences of both images' region means; channel_means:
// (B, 3); tv_sums: (2,).
inline void run(const Planes& image, const Planes& logits, int iterations, void* enhanced_regions, void* gaps,
                void* channel_means, void* tv_sums) {
  const auto compute = [&](auto zero) {
    using C = decltype(zero);
    forward<C>(image, logits, iterations, static_cast<C*>(enhanced_regions), static_cast<C*>(gaps),
               static_cast<C*>(channel_means), static_cast<C*>(tv_sums));
  };
  in_double(image, logits) ? compute(double{}) : compute(float{});
}

// Of double where image or logits are, else float: grad_regions: (B, H / 4, W / 4); grad_channels: (B, 3); grad_tv:
// (2,). image: (B, 3, H, W); logits, grad_logits (written): (B, 3 T or 3, H, W).
inline void run_backward(const void* grad_regions, const void* grad_channels, const void* grad_tv, const Planes& image,
                         const Planes& logits, int iterations, const Planes& grad_logits) {
  const auto compute = [&](auto zero) {
    using C = decltype(zero);
    backward<C>(static_cast<const C*>(grad_regions), static_cast<const C*>(grad_channels),
                static_cast<const C*>(grad_tv), image, logits, iterations, grad_logits);
  };
  in_double(image, logits) ? compute(double{}) : compute(float{});
}

}  // namespace zdce::ZDCE_TARGET::objective_statistics
