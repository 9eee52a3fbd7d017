// The objective on CUDA: tanh, curve, region means, channel means and TV sums from one read of image and logits, and
// the terms from these. Forward and backward are two launches each, one of them over the image.
//
// Tensors are (B, C, H, W). A block has a tile of 32 N x 32 pixels and three warps side by side, one a colour, so that
// a thread carries T maps and not 3 T; two such sets lie below each other. A warp is one row of 32 N pixels wide, N to
// a thread, and walks down: the row below that it loads for the differences along y is the next one it needs, so that
// each value's tanh is taken once. Differences along x cross threads by shuffles; the column beyond the warp is loaded
// and its tanh taken by as many lanes as there are maps, once a row.
//
// Up to T = 8 a tile with its halo is 1.04 times its logits in forward (33 x 129 of 32 x 128), 1.08 times in backward
// (34 x 130), where as much again is written: 1.03 and 1.04 of all bytes.
#pragma once

#include <numbers>

#include "../core/region_grid.h"
#include "planes.cuh"

namespace zdce::cuda {

struct ObjectiveShape {
  int64_t batch, height, width;
  int iterations;
  bool shared;  // logits are (B, 3, H, W), the same at every step
};

// Factors of the squared differences along y and x, which make the illumination term of them; each term's weight in the
// total; the brightness that exposure aims at.
struct ObjectiveSettings {
  float along_y, along_x, illumination, spatial, color, exposure, target;
};

// image (B, 3, H, W) and logits (B, 3 T or 3, H, W) of any type. Written, in float32 and contiguous: the scalars;
// enhanced_regions and gaps (B, H / 4, W / 4), the second the differences of both images' region means; channel_means
// (B, 3). What nobody reads later: partials (5, B, tiles), sums (objective_sums(...)), and the number of blocks that
// have left theirs.
struct ObjectiveForward {
  Planes image, logits;
  ObjectiveSettings settings;
  float* scalars[kObjectiveScalars];
  float *enhanced_regions, *gaps, *channel_means;
  float* partials;
  double* sums;
  unsigned* arrived;
};

// grads: of the scalars, null for zeros. enhanced_regions, gaps and channel_means as forward left them. grad_logits,
// written: as logits, type too. What nobody reads later: grad_regions (B, H / 4, W / 4), grad_channels (B, 3) and
// grad_tv (2,).
struct ObjectiveBackward {
  Planes image, logits, grad_logits;
  ObjectiveSettings settings;
  const float* grads[kObjectiveScalars];
  const float *enhanced_regions, *gaps, *channel_means;
  float *grad_regions, *grad_channels, *grad_tv;
};

constexpr int kRegion = kObjectiveRegion;
constexpr int kTileRows = 32;  // 1/32 of the logits is read twice for the row below

// Rows that a warp walks down: it takes the tanh of 17 rows in forward and of 18 in backward.
constexpr int kRows = 16;
constexpr int kStack = kTileRows / kRows;
constexpr int kThreads = kStack * 3 * kWarp;

__host__ __device__ inline int64_t tiles_across(const ObjectiveShape& s, int n) {
  return (s.width + kWarp * n - 1) / (kWarp * n);
}

__host__ __device__ inline int64_t tiles_per_image(const ObjectiveShape& s, int n) {
  return tiles_across(s, n) * ((s.height + kTileRows - 1) / kTileRows);
}

// The row below y, or y again below the image's last: there are no differences then, and the kernels need no branch, at
// which the compiler would calculate one tanh after the other.
__device__ __forceinline__ int64_t row_below(int64_t y, const ObjectiveShape& s) {
  return y + 1 < s.height ? y + 1 : y;
}

// Grid (images x rows of tiles x tiles), one-dimensional: the other two dimensions end at 65,535.
template <int N>
struct Tile {
  int64_t b, index, top, left;  // of the tile: image, number in it, first row and column
  int64_t first, last, x;       // of the warp: rows from first to before last; of the thread: column
  int lane, colour, stack;
  bool inside;

  __device__ explicit Tile(const ObjectiveShape& s) {
    const int64_t tiles = tiles_per_image(s, N), across = tiles_across(s, N);
    b = blockIdx.x / tiles, index = blockIdx.x % tiles;
    top = index / across * kTileRows, left = index % across * (kWarp * N);
    // By a shuffle, so that the compiler knows that a warp stays together.
    const int warp = __shfl_sync(kAll, static_cast<int>(threadIdx.x / kWarp), 0);
    lane = threadIdx.x % kWarp, colour = warp % 3, stack = warp / 3;
    first = top + stack * kRows;
    last = first + kRows < s.height ? first + kRows : s.height;
    x = left + lane * N;
    inside = x < s.width;
  }

  __device__ int64_t in(const Planes& t, int channel, int64_t row, int64_t column) const {
    return b * t.batch + channel * t.channel + row * t.row + column * t.pixel;
  }
};

// Pixels a thread takes: with T maps of each a few registers a pixel and map, with shared maps 16 bytes.
template <class M, int kMaps>
constexpr int kPixels = kMaps == 1   ? kPack<M>
                        : kMaps <= 8 ? 4
                                     : 2;

// N pixels of kMaps maps in one row, as they lie in memory. Where N are less than 16 bytes, a group of lanes shares the
// work: each moves 16 bytes of a map of its own, all the group's pixels, and by transposing they have the N pixels of
// each of these maps. From the last map on there are zeros, with which a step and all differences are nothing: so no
// map's arithmetic needs a branch, behind which it would wait for the one before.
template <class M, int N, int kMaps>
class Row {
 public:
  static constexpr int kGroup = N == 1 || kMaps == 1 ? 1 : kPack<M> / N;

  __device__ __forceinline__ void load(const Planes& t, const Tile<N>& tile, int64_t y, int maps, bool inside) {
    const int64_t from = first(t, tile, y), triplet = opaque(3 * t.channel);
#pragma unroll
    for (int m = 0; m < kMaps; m += kGroup) {
      const bool has = inside && m + tile.lane % kGroup < maps;
      packs_[m / kGroup] = cuda::load<M, kGroup * N>(t, from + m * triplet, has);
    }
  }

  // Between loading and taking, and between giving and storing, of a group's first map.
  __device__ __forceinline__ void transpose(int m, const Tile<N>& tile) {
    if (m % kGroup == 0) packs_[m / kGroup].template transpose<kGroup>(tile.lane);
  }
  __device__ __forceinline__ float get(int m, int i) const { return packs_[m / kGroup].get(m % kGroup * N + i); }
  __device__ __forceinline__ void set(int m, int i, float x) { packs_[m / kGroup].set(m % kGroup * N + i, x); }

  __device__ __forceinline__ void tangents(const Tile<N>& tile, float (&a)[kMaps][N]) {
#pragma unroll
    for (int m = 0; m < kMaps; ++m) {
      transpose(m, tile);
#pragma unroll
      for (int i = 0; i < N; ++i) a[m][i] = hyperbolic_tangent(get(m, i));
    }
  }

  // Stores the group that ends with map m.
  __device__ __forceinline__ void store(const Planes& t, const Tile<N>& tile, int64_t y, int maps, int m) {
    if (m % kGroup != kGroup - 1 && m != maps - 1) return;
    const int begin = m / kGroup * kGroup;
    const int64_t at = first(t, tile, y) + begin * opaque(3 * t.channel);
    transpose(begin, tile);
    cuda::store<M, kGroup * N>(t, at, tile.inside && begin + tile.lane % kGroup < maps, packs_[begin / kGroup]);
  }

 private:
  __device__ __forceinline__ static int64_t first(const Planes& t, const Tile<N>& tile, int64_t y) {
    const int own = tile.lane % kGroup;
    return tile.in(t, 3 * own + tile.colour, y, tile.x - own * N);
  }

  Pack<M, kGroup * N> packs_[kMaps / kGroup];
};

// A of one map, row and column, whichever the lane asks for.
template <class M, int N>
__device__ __forceinline__ float tangent(const Planes& logits, const Tile<N>& tile, int map, int64_t y, int64_t column,
                                         bool inside) {
  return hyperbolic_tangent(load<M, 1>(logits, tile.in(logits, 3 * map + tile.colour, y, column), inside).get(0));
}

// A of the pixels before and after a thread's own, from the lanes beside it; beyond the warp there is `far`, and beyond
// the image's border the own value again, which makes no difference.
template <int N>
__device__ __forceinline__ float before(const Tile<N>& tile, const float (&a)[N], float far) {
  const float left = __shfl_up_sync(kAll, a[N - 1], 1);
  return tile.x == 0 ? a[0] : tile.lane == 0 ? far : left;
}

template <int N>
__device__ __forceinline__ float after(const Tile<N>& tile, const float (&a)[N], float far, int64_t width) {
  const float right = __shfl_down_sync(kAll, a[0], 1);
  return tile.x + N >= width ? a[N - 1] : tile.lane == kWarp - 1 ? far : right;
}

// Every lane gets the warp's sum, added up in an order that depends on nothing.
template <class V>
__device__ __forceinline__ V warp_sum(V v) {
#pragma unroll
  for (int with = kWarp / 2; with > 0; with /= 2) v += __shfl_xor_sync(kAll, v, with);
  return v;
}

// What the tiles' sums are of: the three colours of Y, then squared differences along y and x.
constexpr int kSums = 5;

// What the warps of a tile leave for the block. Of each colour: the sums of its regions, and each warp's sums of Y and
// of squared differences along y and x.
template <int N>
struct TileSums {
  static constexpr int kAcross = kWarp * N / kRegion, kDown = kTileRows / kRegion;
  float enhanced[3][kDown][kAcross], image[3][kDown][kAcross];
  float warps[kStack][3][3];
};

// Leaves the sums of the row of regions that ends with row y. enhanced, image: those of a thread's columns in the row's
// four rows; then 0.
template <int N, int kOwn>
__device__ __forceinline__ void leave_regions(const Tile<N>& tile, int64_t y, float (&enhanced)[kOwn],
                                              float (&image)[kOwn], TileSums<N>& sums) {
  const int row = static_cast<int>(y - tile.top) / kRegion;
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    float e = enhanced[j], i = image[j];
#pragma unroll
    for (int with = 1; with < kRegion / N; with *= 2) {
      e += __shfl_xor_sync(kAll, e, with), i += __shfl_xor_sync(kAll, i, with);
    }
    const int across = (tile.lane * N + j * kRegion) / kRegion;
    if (tile.lane * N % kRegion == 0) {
      sums.enhanced[tile.colour][row][across] = e, sums.image[tile.colour][row][across] = i;
    }
    enhanced[j] = image[j] = 0;
  }
}

// Writes the means of the tile's regions.
template <int N>
__device__ __forceinline__ void write_regions(const ObjectiveForward& o, const ObjectiveShape& shape,
                                              const Tile<N>& tile, const TileSums<N>& sums) {
  constexpr int kAcross = TileSums<N>::kAcross, kDown = TileSums<N>::kDown;
  constexpr float kMean = 1.0f / (3 * kRegion * kRegion);
  for (int i = threadIdx.x; i < kDown * kAcross; i += kThreads) {
    const int down = i / kAcross, across = i % kAcross;
    const int64_t row = tile.top / kRegion + down, column = tile.left / kRegion + across;
    const bool complete = row < shape.height / kRegion && column < shape.width / kRegion;
    if (complete) {
      const float (&e)[3][kDown][kAcross] = sums.enhanced, (&m)[3][kDown][kAcross] = sums.image;
      const int64_t to = (tile.b * (shape.height / kRegion) + row) * (shape.width / kRegion) + column;
      const float enhanced = e[0][down][across] + e[1][down][across] + e[2][down][across];
      o.enhanced_regions[to] = enhanced * kMean;
      o.gaps[to] = (enhanced - (m[0][down][across] + m[1][down][across] + m[2][down][across])) * kMean;
    }
  }
}

// Writes the tile's sums.
template <int N>
__device__ __forceinline__ void write_partials(const ObjectiveForward& o, const ObjectiveShape& shape,
                                               const Tile<N>& tile, const float (&warps)[kStack][3][3]) {
  if (threadIdx.x >= kSums) return;
  const int v = threadIdx.x;
  float sum = 0;
#pragma unroll
  for (int s = 0; s < kStack; ++s) {
    sum += v < 3 ? warps[s][v][0] : warps[s][0][v - 2] + warps[s][1][v - 2] + warps[s][2][v - 2];
  }
  o.partials[(v * shape.batch + tile.b) * tiles_per_image(shape, N) + tile.index] = sum;
}

// Float32, T = 8: 108 bytes read a pixel, and half a byte of means written. kMaps: 1 where maps are shared, else the
// largest T. partials are for objective_terms to add up.
template <class M, int N, int kMaps>
__global__ void __launch_bounds__(kThreads, 2) objective_forward(const ObjectiveForward o, const ObjectiveShape shape) {
  const Planes &image = o.image, &logits = o.logits;
  constexpr int kOwn = N < kRegion ? 1 : N / kRegion;  // regions that a thread has a row of
  __shared__ TileSums<N> sums;
  if (blockIdx.x == 0 && threadIdx.x == 0) *o.arrived = 0;  // for objective_terms

  const Tile<N> tile(shape);
  const int c = tile.colour, maps = kMaps == 1 ? 1 : shape.iterations;
  const int64_t beyond = tile.left + kWarp * N;  // the column after the warp's
  float a[kMaps][N];                             // A in row y
  Row<M, N, kMaps> next;
  next.load(logits, tile, tile.first, maps, tile.inside && tile.first < shape.height);
  next.tangents(tile, a);

  float channel_sum = 0, tv_y = 0, tv_x = 0;
  float enhanced_region[kOwn] = {}, image_region[kOwn] = {};
#pragma unroll 1
  for (int64_t y = tile.first; y < tile.last; ++y) {
    next.load(logits, tile, row_below(y, shape), maps, tile.inside);
    float x[N];
    load<N>(image, tile.in(image, c, y, tile.x), tile.inside, x);
    // Lane t has the column beyond of map t.
    const float edge = tangent<M>(logits, tile, tile.lane, y, beyond, tile.lane < maps && beyond < shape.width);

#pragma unroll
    for (int i = 0; i < N; ++i) image_region[i / kRegion] += x[i];
    float row_y = 0, row_x = 0;  // summed apart, so that no long sum loses its last bits
#pragma unroll
    for (int t = 0; t < kMaps; ++t) {
      next.transpose(t, tile);
      const float right = after(tile, a[t], __shfl_sync(kAll, edge, t), shape.width);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float dx = (i + 1 < N ? a[t][i + 1 < N ? i + 1 : 0] : right) - a[t][i];
        row_x += dx * dx;
      }
#pragma unroll
      for (int i = 0; i < N; ++i) {
        if (kMaps == 1) {
          for (int k = 0; k < shape.iterations; ++k) x[i] = step(x[i], a[t][i]);
        } else {
          x[i] = step(x[i], a[t][i]);
        }
        const float lower = hyperbolic_tangent(next.get(t, i)), dy = lower - a[t][i];
        row_y += dy * dy;
        a[t][i] = lower;
      }
    }
    tv_y += row_y, tv_x += row_x;
    float row = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) row += x[i], enhanced_region[i / kRegion] += x[i];
    channel_sum += row;

    if (y % kRegion == kRegion - 1) leave_regions(tile, y, enhanced_region, image_region, sums);
  }

  channel_sum = warp_sum(channel_sum), tv_y = warp_sum(tv_y), tv_x = warp_sum(tv_x);
  if (tile.lane == 0) {
    float (&to)[3] = sums.warps[tile.stack][c];
    to[0] = channel_sum, to[1] = tv_y, to[2] = tv_x;
  }
  __syncthreads();

  write_regions(o, shape, tile, sums);
  write_partials(o, shape, tile, sums.warps);
}

// As objective_forward, of logits whose channels lie side by side: a thread has all colours of a pixel and T = 8 maps
// of each, 24 neighbouring elements. A tile is one warp, 32 pixels wide; so the compiler knows that the warp stays
// together.

__host__ __device__ inline int64_t pixel_tiles_per_image(const ObjectiveShape& s) {
  return tiles_across(s, 1) * ((s.height + kRows - 1) / kRows);
}

struct PixelTile {
  int64_t b, index, left;  // image, number in it, first column
  int64_t first, last, x;  // rows from first to before last; of the thread: column
  int64_t column;  // the thread's, or the image's last: threads beyond the image have copies, without differences
  int lane;
  bool inside;

  __device__ explicit PixelTile(const ObjectiveShape& s) {
    const int64_t tiles = pixel_tiles_per_image(s), across = tiles_across(s, 1);
    b = blockIdx.x / tiles, index = blockIdx.x % tiles;
    left = index % across * kWarp, first = index / across * kRows;
    last = first + kRows < s.height ? first + kRows : s.height;
    lane = threadIdx.x;
    x = left + lane;
    inside = x < s.width;
    column = inside ? x : s.width - 1;
  }

  __device__ int64_t in(const Planes& t, int channel, int64_t row, int64_t column) const {
    return b * t.batch + channel * t.channel + row * t.row + column * t.pixel;
  }

  // A of one channel, row and column, whichever the lane asks for.
  template <class M>
  __device__ __forceinline__ float tangent(const Planes& logits, int channel, int64_t row, int64_t column,
                                           bool inside) const {
    return hyperbolic_tangent(load<M, 1>(logits, in(logits, channel, row, column), inside).get(0));
  }
};

template <class M>
__global__ void __launch_bounds__(kWarp)
    objective_forward_pixels(const ObjectiveForward o, const ObjectiveShape shape) {
  if (blockIdx.x == 0 && threadIdx.x == 0) *o.arrived = 0;  // for objective_terms

  const Planes &image = o.image, &logits = o.logits;
  const PixelTile tile(shape);
  const int64_t beyond = tile.left + kWarp < shape.width ? tile.left + kWarp : shape.width - 1;
  float a[kPixelChannels];  // A in row y
  Pixel<M> next;
  next.load(logits, tile.in(logits, 0, tile.first, tile.column), true);
#pragma unroll
  for (int k = 0; k < kPixelChannels; ++k) a[k] = hyperbolic_tangent(next.get(k));

  float totals[kSums] = {}, enhanced_region = 0, image_region = 0;
#pragma unroll 1
  for (int64_t y = tile.first; y < tile.last; ++y) {
    next.load(logits, tile.in(logits, 0, row_below(y, shape), tile.column), true);
    float x[3][1];
#pragma unroll
    for (int c = 0; c < 3; ++c) load<1>(image, tile.in(image, c, y, tile.x), tile.inside, x[c]);
    // Lane k has the column beyond the warp's of channel k.
    const float edge = tile.tangent<M>(logits, tile.lane, y, beyond, tile.lane < kPixelChannels);

    image_region += x[0][0] + x[1][0] + x[2][0];
    float row_y = 0, row_x = 0;  // summed apart, so that no long sum loses its last bits
#pragma unroll
    for (int k = 0; k < kPixelChannels; ++k) {
      const float far = __shfl_sync(kAll, edge, k), right = __shfl_down_sync(kAll, a[k], 1);
      const float dx = (tile.lane == kWarp - 1 ? far : right) - a[k];
      row_x += dx * dx;
      x[k % 3][0] = step(x[k % 3][0], a[k]);
      const float lower = hyperbolic_tangent(next.get(k)), dy = lower - a[k];
      row_y += dy * dy;
      a[k] = lower;
    }
    totals[3] += row_y, totals[4] += row_x;
#pragma unroll
    for (int c = 0; c < 3; ++c) totals[c] += x[c][0];
    enhanced_region += x[0][0] + x[1][0] + x[2][0];

    if (y % kRegion == kRegion - 1) {
      float e = enhanced_region, i = image_region;
#pragma unroll
      for (int with = 1; with < kRegion; with *= 2) {
        e += __shfl_xor_sync(kAll, e, with), i += __shfl_xor_sync(kAll, i, with);
      }
      const int64_t across = shape.width / kRegion;
      if (tile.lane % kRegion == 0 && tile.x / kRegion < across) {
        constexpr float kMean = 1.0f / (3 * kRegion * kRegion);
        const int64_t to = (tile.b * (shape.height / kRegion) + y / kRegion) * across + tile.x / kRegion;
        o.enhanced_regions[to] = e * kMean, o.gaps[to] = (e - i) * kMean;
      }
      enhanced_region = image_region = 0;
    }
  }

#pragma unroll
  for (int v = 0; v < kSums; ++v) {
    const float sum = warp_sum(tile.inside ? totals[v] : 0.0f);
    if (tile.lane == 0) o.partials[(v * shape.batch + tile.b) * pixel_tiles_per_image(shape) + tile.index] = sum;
  }
}

constexpr int kSumThreads = 256;

ZDCE_INLINE RegionGrid grid_of(const ObjectiveShape& s) { return {s.batch, s.height / kRegion, s.width / kRegion}; }

// Four regions to a thread, until that many blocks keep all processors busy.
constexpr int64_t kMostRegionBlocks = 128;
__host__ __device__ inline int64_t region_blocks(const ObjectiveShape& s) {
  const int64_t enough = (grid_of(s).regions() + 4 * kSumThreads - 1) / (4 * kSumThreads);
  return enough < kMostRegionBlocks ? enough : kMostRegionBlocks;
}

// Every thread gets the block's sum, added up in an order that depends on nothing.
__device__ inline double block_sum(double v) {
  __shared__ double warps[kSumThreads / kWarp];
  v = warp_sum(v);
  __syncthreads();  // what an earlier call left has been read
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = v;
  __syncthreads();
  double total = 0;
#pragma unroll
  for (int w = 0; w < kSumThreads / kWarp; ++w) total += warps[w];
  return total;
}

__device__ __forceinline__ float squared(float x) { return x * x; }

// The mean of the square of regions that begins with `region`.
__device__ __forceinline__ float mean_of_square(const float* region, int64_t across) {
  float sum = 0;
#pragma unroll
  for (int y = 0; y < kExposureSquare; ++y) {
#pragma unroll
    for (int x = 0; x < kExposureSquare; ++x) sum += region[y * across + x];
  }
  return sum * (1.0f / (kExposureSquare * kExposureSquare));
}

// A quotient's divisor, of which 0 means that there is nothing to divide.
__device__ __forceinline__ double at_least_1(int64_t number) { return static_cast<double>(number < 1 ? 1 : number); }

// This block's share of the squares in the spatial term: each pair of neighbours twice, a region at the border and the
// zero beyond it once. Then of those in the exposure term.
__device__ inline void sums_of_squares(const ObjectiveForward& o, const RegionGrid& grid, int64_t block, int64_t blocks,
                                       double& contrast, double& exposure) {
  const int64_t first = block * kSumThreads + threadIdx.x, step = blocks * kSumThreads;
  for (int64_t i = first; i < grid.regions(); i += step) {
    const int64_t x = i % grid.across, y = i / grid.across % grid.down;
    const float g = o.gaps[i];
    float sum = x + 1 < grid.across ? 2 * squared(g - o.gaps[i + 1]) : squared(g);
    sum += y + 1 < grid.down ? 2 * squared(g - o.gaps[i + grid.across]) : squared(g);
    if (x == 0) sum += squared(g);
    if (y == 0) sum += squared(g);
    contrast += sum;
  }
  const int64_t across = grid.across / kExposureSquare, down = grid.down / kExposureSquare;
  for (int64_t i = first; i < grid.squares(); i += step) {
    const int64_t x = i % across, y = i / across % down, b = i / across / down;
    const float* region =
        o.enhanced_regions + ((b * grid.down + y * kExposureSquare) * grid.across + x * kExposureSquare);
    exposure += squared(mean_of_square(region, grid.across) - o.settings.target);
  }
}

// Doubles that objective_terms leaves between its blocks: the tiles' sums of each channel and direction, then the
// shares of the spatial term, then those of the exposure term.
inline int64_t objective_sums(const ObjectiveShape& s) { return 3 * s.batch + 2 + 2 * region_blocks(s); }

// The tiles' sums to channel means, and all terms. Grid: 3 B + 2 blocks add up tiles, region_blocks(...) the squares of
// regions; the block that ends last makes the scalars of all sums. In double, so that even the 25,000 tiles of 100
// megapixels lose nothing that float32 could show; the order depends on the shape alone.
template <class Unused = void>  // a template, so that two sources may include it
__global__ void __launch_bounds__(kSumThreads)
    objective_terms(const ObjectiveForward o, int64_t tiles, const ObjectiveShape shape) {
  __shared__ bool last;
  const RegionGrid grid = grid_of(shape);
  const int64_t images = shape.batch, of_tiles = 3 * images + 2, of_regions = gridDim.x - of_tiles;
  const double pixels = static_cast<double>(shape.height * shape.width);
  const int64_t block = blockIdx.x;
  if (block < of_tiles) {
    const int64_t image = block / 3, channel = block % 3;
    const bool mean = image < images;
    // Behind the channels' partials lie those of the squares along y, then those along x.
    const float* from = o.partials + (mean ? channel * images + image : (block - 3 * images + 3) * images) * tiles;
    const int64_t count = mean ? tiles : images * tiles;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += kSumThreads) sum += from[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
      o.sums[block] = sum;
      if (mean) o.channel_means[block] = static_cast<float>(sum / pixels);
    }
  } else {
    double contrast = 0, exposure = 0;
    sums_of_squares(o, grid, block - of_tiles, of_regions, contrast, exposure);
    contrast = block_sum(contrast), exposure = block_sum(exposure);
    if (threadIdx.x == 0) o.sums[block] = contrast, o.sums[block + of_regions] = exposure;
  }

  if (threadIdx.x == 0) {
    __threadfence();  // a block that sees this one's arrival sees its sums
    last = atomicAdd(o.arrived, 1u) + 1 == gridDim.x;
    __threadfence();
  }
  __syncthreads();
  if (!last) return;

  double color = 0, spatial = 0, exposure = 0;
  for (int64_t b = threadIdx.x; b < images; b += kSumThreads) {
    const double red = __ldcg(o.sums + 3 * b), green = __ldcg(o.sums + 3 * b + 1), blue = __ldcg(o.sums + 3 * b + 2);
    color += (red - green) * (red - green) + (green - blue) * (green - blue) + (blue - red) * (blue - red);
  }
  for (int64_t i = threadIdx.x; i < of_regions; i += kSumThreads) {
    spatial += __ldcg(o.sums + of_tiles + i), exposure += __ldcg(o.sums + of_tiles + of_regions + i);
  }
  color = block_sum(color), spatial = block_sum(spatial), exposure = block_sum(exposure);
  if (threadIdx.x == 0) {
    const ObjectiveSettings& s = o.settings;
    const double illumination = s.along_y * __ldcg(o.sums + 3 * images) + s.along_x * __ldcg(o.sums + 3 * images + 1);
    color /= std::numbers::sqrt2 * static_cast<double>(images) * pixels * pixels;
    spatial /= at_least_1(grid.regions()), exposure /= at_least_1(grid.squares());
    const double total = s.illumination * illumination + s.spatial * spatial + s.color * color + s.exposure * exposure;
    const double scalars[kObjectiveScalars] = {total, illumination, spatial, color, exposure};
#pragma unroll
    for (int i = 0; i < kObjectiveScalars; ++i) *o.scalars[i] = static_cast<float>(scalars[i]);
  }
}

// Gradients of the statistics from those of the scalars: a thread a region, and the first threads also a channel mean
// or a direction's squared differences. Grid: slope_blocks(...).
inline int64_t slope_blocks(const ObjectiveShape& s) {
  const int64_t regions = grid_of(s).regions(), others = 3 * s.batch + 2;
  return ((regions > others ? regions : others) + kSumThreads - 1) / kSumThreads;
}

template <class Unused = void>
__global__ void __launch_bounds__(kSumThreads) objective_slopes(const ObjectiveBackward o, const ObjectiveShape shape) {
  const RegionGrid grid = grid_of(shape);
  const ObjectiveSettings& s = o.settings;
  const auto gradient = [&](int term, float weight) {
    const auto of = [&](int i) { return o.grads[i] == nullptr ? 0.0f : *o.grads[i]; };
    return weight * of(0) + of(term);
  };
  const int64_t i = int64_t{blockIdx.x} * kSumThreads + threadIdx.x;
  if (i < grid.regions()) {
    const float spatial = gradient(2, s.spatial) * static_cast<float>(4 / at_least_1(grid.regions()));
    const float exposure = gradient(4, s.exposure) *
                           static_cast<float>(2 / (kExposureSquare * kExposureSquare * at_least_1(grid.squares())));
    const int64_t x = i % grid.across, y = i / grid.across % grid.down;
    // A pair inside counts twice, one with the zero beyond the border once.
    const float g = o.gaps[i], half = g / 2;
    const float along_y =
        (y > 0 ? g - o.gaps[i - grid.across] : half) + (y + 1 < grid.down ? g - o.gaps[i + grid.across] : half);
    const float along_x = (x > 0 ? g - o.gaps[i - 1] : half) + (x + 1 < grid.across ? g - o.gaps[i + 1] : half);
    float slope = spatial * (along_y + along_x);
    if (x / kExposureSquare < grid.across / kExposureSquare && y / kExposureSquare < grid.down / kExposureSquare) {
      const float* region = o.enhanced_regions + (i - y % kExposureSquare * grid.across - x % kExposureSquare);
      slope += exposure * (mean_of_square(region, grid.across) - s.target);
    }
    o.grad_regions[i] = slope;
  }
  if (i < 3 * grid.batch) {
    const int64_t c = i % 3;
    const float* mean = o.channel_means + (i - c);
    const float pulls = (mean[c] - mean[(c + 2) % 3]) + (mean[c] - mean[(c + 1) % 3]);
    o.grad_channels[i] = gradient(3, s.color) * (std::numbers::sqrt2_v<float> / static_cast<float>(grid.batch)) * pulls;
  } else if (i < 3 * grid.batch + 2) {
    o.grad_tv[i - 3 * grid.batch] = gradient(1, s.illumination) * (i == 3 * grid.batch ? s.along_y : s.along_x);
  }
}

// The gradient of a thread's enhanced pixels in row y: of their channel's mean, and of the means of their regions.
template <int N>
__device__ __forceinline__ void enhanced_gradient(const ObjectiveBackward& o, const ObjectiveShape& shape,
                                                  const Tile<N>& tile, int64_t y, float grad_mean, float (&g)[N]) {
  constexpr int kOwn = N < kRegion ? 1 : N / kRegion;  // regions that a thread has a row of
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    const int64_t row = y / kRegion, across = tile.x / kRegion + j;
    const int64_t regions_down = shape.height / kRegion, regions_across = shape.width / kRegion;
    const bool complete = row < regions_down && across < regions_across;
    const int64_t at = (tile.b * regions_down + row) * regions_across + across;
    const float grad_region = complete ? o.grad_regions[at] : 0.0f;
#pragma unroll
    for (int i = 0; i < N / kOwn; ++i) {
      g[j * (N / kOwn) + i] = grad_mean + grad_region * (1.0f / (3 * kRegion * kRegion));
    }
  }
}

// Finishes a map's gradient in row y: what the pixels beside and below ask of A, and tanh's own slope. `next` has the
// logits of the row below, then the gradient. `a` and `grad` go on to the row below: A there, and its difference to row
// y's.
template <class M, int N, int kMaps>
__device__ __forceinline__ void map_backward(const ObjectiveShape& shape, const Tile<N>& tile, int t, float edge,
                                             float two_y, float two_x, float (&a)[N], float (&grad)[N],
                                             Row<M, N, kMaps>& next) {
  next.transpose(t, tile);
  const float far = __shfl_sync(kAll, edge, tile.lane == 0 ? t : kMaxIterations + t);
  float left = before(tile, a, far);
  const float last = after(tile, a, far, shape.width);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const float here = a[i], right = i + 1 < N ? a[i + 1 < N ? i + 1 : 0] : last;
    const float lower = hyperbolic_tangent(next.get(t, i)), dy = lower - here;
    next.set(t, i, (grad[i] - two_y * dy + two_x * ((here - left) - (right - here))) * (1 - here * here));
    grad[i] = dy, a[i] = lower, left = here;
  }
}

// Float32, T = 8: 108 bytes read and 96 written a pixel. tanh and the steps are computed again, forward saves nothing.
//
// A warp walks down as in forward, but each map's gradient takes the differences to all four neighbours: besides A in
// row y a thread keeps the difference to the row above, and the gradient grows in its place.
template <class M, int N, int kMaps, int kSteps>
__global__ void __launch_bounds__(kThreads) objective_backward(const ObjectiveBackward o, const ObjectiveShape shape) {
  const Planes &image = o.image, &logits = o.logits;
  const Tile<N> tile(shape);
  const int c = tile.colour, maps = kMaps == 1 ? 1 : shape.iterations;
  if (tile.first >= tile.last) return;  // the whole warp is below the image

  const float two_y = 2 * o.grad_tv[0], two_x = 2 * o.grad_tv[1];
  const float grad_mean = o.grad_channels[3 * tile.b + c] / static_cast<float>(shape.height * shape.width);

  // A in row y, and first A in row y less that in row y - 1 (0 in the first row), then what row y's gradient is so far.
  float a[kMaps][N], grad[kMaps][N];
  Row<M, N, kMaps> next;
  next.load(logits, tile, tile.first > 0 ? tile.first - 1 : 0, maps, tile.inside);
  next.tangents(tile, grad);
  next.load(logits, tile, tile.first, maps, tile.inside);
  next.tangents(tile, a);
#pragma unroll
  for (int t = 0; t < kMaps; ++t) {
#pragma unroll
    for (int i = 0; i < N; ++i) grad[t][i] = a[t][i] - grad[t][i];
  }

#pragma unroll 1
  for (int64_t y = tile.first; y < tile.last; ++y) {
    next.load(logits, tile, row_below(y, shape), maps, tile.inside);
    // Lane t has the column before the warp's of map t, lane 16 + t the one beyond.
    const int map = tile.lane % kMaxIterations;
    const int64_t column = tile.lane < kMaxIterations ? tile.left - 1 : tile.left + kWarp * N;
    const float edge = tangent<M>(logits, tile, map, y, column, map < maps && column >= 0 && column < shape.width);
    float start[N], g[N];
    load<N>(image, tile.in(image, c, y, tile.x), tile.inside, start);
    enhanced_gradient(o, shape, tile, y, grad_mean, g);

    // What the curve and the row above ask of A.
#pragma unroll
    for (int i = 0; i < N; ++i) {
      float shared = 0;
      const auto map_of = [&](int t) { return a[kMaps == 1 ? 0 : t][i]; };
      const auto give = [&](int t, float grad_map) {
        if (kMaps == 1) {
          shared += grad_map;
        } else {
          grad[kMaps == 1 ? 0 : t][i] = two_y * grad[kMaps == 1 ? 0 : t][i] + grad_map;
        }
      };
      steps_backward<kSteps>(start[i], g[i], kMaps == 1 ? shape.iterations : kSteps, map_of, give);
      if (kMaps == 1) grad[0][i] = two_y * grad[0][i] + shared;
    }
    // What the other three neighbours ask, and tanh's own slope.
#pragma unroll
    for (int t = 0; t < kMaps; ++t) {
      // With several pixels a thread has enough to do in one map; the branch keeps it from taking several maps at once,
      // and their registers.
      if (N == 1 || t < maps) {
        map_backward(shape, tile, t, edge, two_y, two_x, a[t], grad[t], next);
        next.store(o.grad_logits, tile, y, maps, t);
      }
    }
  }
}

// As objective_backward, of logits and gradients whose channels lie side by side: a thread has a pixel, as in
// objective_forward_pixels.
template <class M>
__global__ void __launch_bounds__(kWarp)
    objective_backward_pixels(const ObjectiveBackward o, const ObjectiveShape shape) {
  const Planes &image = o.image, &logits = o.logits;
  const PixelTile tile(shape);
  const float two_y = 2 * o.grad_tv[0], two_x = 2 * o.grad_tv[1];
  // The columns beside the warp's, or at the image's border its own.
  const int64_t outer_left = tile.left > 0 ? tile.left - 1 : 0;
  const int64_t outer_right = tile.left + kWarp < shape.width ? tile.left + kWarp : shape.width - 1;
  float grad_means[3];
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    grad_means[c] = o.grad_channels[3 * tile.b + c] / static_cast<float>(shape.height * shape.width);
  }

  // A in row y, and first A in row y less that in row y - 1 (0 in the first row), then what row y's gradient is so far.
  float a[kPixelChannels], grad[kPixelChannels];
  Pixel<M> next;
  next.load(logits, tile.in(logits, 0, tile.first > 0 ? tile.first - 1 : 0, tile.column), true);
#pragma unroll
  for (int k = 0; k < kPixelChannels; ++k) grad[k] = hyperbolic_tangent(next.get(k));
  next.load(logits, tile.in(logits, 0, tile.first, tile.column), true);
#pragma unroll
  for (int k = 0; k < kPixelChannels; ++k) {
    a[k] = hyperbolic_tangent(next.get(k));
    grad[k] = a[k] - grad[k];
  }

#pragma unroll 1
  for (int64_t y = tile.first; y < tile.last; ++y) {
    next.load(logits, tile.in(logits, 0, row_below(y, shape), tile.column), true);
    // Lane k has the columns before and beyond the warp's of channel k.
    const bool has = tile.lane < kPixelChannels;
    const float before = tile.tangent<M>(logits, tile.lane, y, outer_left, has);
    const float after = tile.tangent<M>(logits, tile.lane, y, outer_right, has);
    const int64_t regions_down = shape.height / kRegion, regions_across = shape.width / kRegion;
    const int64_t row = y / kRegion, across = tile.x / kRegion;
    const bool complete = row < regions_down && across < regions_across;
    const int64_t at = (tile.b * regions_down + row) * regions_across + across;
    const float of_region = complete ? o.grad_regions[at] * (1.0f / (3 * kRegion * kRegion)) : 0.0f;

    // What the curve and the row above ask of A.
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      float start[1], g = grad_means[c] + of_region;
      load<1>(image, tile.in(image, c, y, tile.x), tile.inside, start);
      const auto map_of = [&](int t) { return a[3 * t + c]; };
      const auto give = [&](int t, float grad_map) { grad[3 * t + c] = two_y * grad[3 * t + c] + grad_map; };
      steps_backward<kPixelMaps>(start[0], g, kPixelMaps, map_of, give);
    }
    // What the other three neighbours ask, and tanh's own slope.
#pragma unroll
    for (int k = 0; k < kPixelChannels; ++k) {
      const float here = a[k], far_left = __shfl_sync(kAll, before, k), far_right = __shfl_sync(kAll, after, k);
      float left = __shfl_up_sync(kAll, here, 1), right = __shfl_down_sync(kAll, here, 1);
      left = tile.lane == 0 ? far_left : left;
      right = tile.lane == kWarp - 1 ? far_right : right;
      const float lower = hyperbolic_tangent(next.get(k)), dy = lower - here;
      next.set(k, (grad[k] - two_y * dy + two_x * ((here - left) - (right - here))) * (1 - here * here));
      grad[k] = dy, a[k] = lower;
    }
    next.store(o.grad_logits, tile.in(o.grad_logits, 0, y, tile.x), tile.inside);
  }
}

// Host side: which kernel, over which grid. `launch(kernel, blocks, threads, arguments...)` starts it.

// Floats that forward wants for the tiles' sums: tiles of whole pixels are smallest.
inline int64_t objective_partials(const ObjectiveShape& s) { return kSums * s.batch * pixel_tiles_per_image(s); }

template <class M, int kMaps, class Launch>
void launch_objective_forward(const Launch& launch, const ObjectiveForward& o, const ObjectiveShape& s) {
  constexpr int n = kPixels<M, kMaps>;
  const bool wide = packs(o.image, s.width, n) && packs(o.logits, s.width, kPack<M>);
  const bool pixels = !wide && takes_pixels(o.logits, s.iterations, s.shared);
  const int64_t tiles = pixels ? pixel_tiles_per_image(s) : tiles_per_image(s, wide ? n : 1);
  if (pixels) {
    launch(objective_forward_pixels<M>, s.batch * tiles, kWarp, o, s);
  } else {
    launch(wide ? objective_forward<M, n, kMaps> : objective_forward<M, 1, kMaps>, s.batch * tiles, kThreads, o, s);
  }
  launch(objective_terms<>, 3 * s.batch + 2 + region_blocks(s), kSumThreads, o, tiles, s);
}

template <class M, int kMaps, int kSteps, class Launch>
void launch_objective_backward(const Launch& launch, const ObjectiveBackward& o, const ObjectiveShape& s) {
  constexpr int n = kPixels<M, kMaps>;
  const bool wide =
      packs(o.image, s.width, n) && packs(o.logits, s.width, kPack<M>) && packs(o.grad_logits, s.width, kPack<M>);
  launch(objective_slopes<>, slope_blocks(s), kSumThreads, o, s);
  if (!wide && takes_pixels(o.logits, s.iterations, s.shared) && takes_pixels(o.grad_logits, s.iterations, s.shared)) {
    launch(objective_backward_pixels<M>, s.batch * pixel_tiles_per_image(s), kWarp, o, s);
  } else {
    launch(wide ? objective_backward<M, n, kMaps, kSteps> : objective_backward<M, 1, kMaps, kSteps>,
           s.batch * tiles_per_image(s, wide ? n : 1), kThreads, o, s);
  }
}

// Own maps: up to T = 8, as in every published network, and up to 16 with twice the registers.
template <class M, class Launch>
void launch_objective_of(const Launch& launch, const ObjectiveForward& o, const ObjectiveShape& s) {
  if (s.shared) return launch_objective_forward<M, 1>(launch, o, s);
  if (s.iterations <= 8) return launch_objective_forward<M, 8>(launch, o, s);
  launch_objective_forward<M, kMaxIterations>(launch, o, s);
}

template <class M, class Launch>
void launch_objective_of(const Launch& launch, const ObjectiveBackward& o, const ObjectiveShape& s) {
  if (s.shared) return launch_objective_backward<M, 1, kMaxIterations>(launch, o, s);
  if (s.iterations <= 8) return launch_objective_backward<M, 8, 8>(launch, o, s);
  launch_objective_backward<M, kMaxIterations, kMaxIterations>(launch, o, s);
}

// O: ObjectiveForward or ObjectiveBackward.
template <class Launch, class O>
void launch_objective(const Launch& launch, const O& o, const ObjectiveShape& s) {
  switch (o.logits.type) {
    case Type::kFloat:
      return launch_objective_of<float>(launch, o, s);
    case Type::kHalf:
      return launch_objective_of<__half>(launch, o, s);
    default:
      return launch_objective_of<__nv_bfloat16>(launch, o, s);
  }
}

}  // namespace zdce::cuda
