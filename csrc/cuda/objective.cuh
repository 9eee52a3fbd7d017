// The objective's single pass on CUDA: tanh, curve, region means, channel means and TV sums from one read of image and
// logits.
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

#include "planes.cuh"

namespace zdce::cuda {

struct ObjectiveShape {
  int64_t batch, height, width;
  int iterations;
  bool shared;  // logits are (B, 3, H, W), the same at every step
};

// image (B, 3, H, W) and logits (B, 3 T or 3, H, W) of any type. Written, in float32: enhanced_regions and
// image_regions (B, H / 4, W / 4), channel_means (B, 3) and tv_sums (2,); and partials, (5, B, tiles), which nobody
// reads later.
struct ObjectiveForward {
  Planes image, logits, enhanced_regions, image_regions, channel_means, tv_sums;
  float* partials;
};

// grad_regions (B, H / 4, W / 4), grad_channels (B, 3) and grad_tv (2,), float32. grad_logits, written: as logits, type
// too.
struct ObjectiveBackward {
  Planes grad_regions, grad_channels, grad_tv, image, logits, grad_logits;
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
    const int warp = threadIdx.x / kWarp;
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
// each of these maps.
template <class M, int N, int kMaps>
class Row {
 public:
  static constexpr int kGroup = N == 1 || kMaps == 1 ? 1 : kPack<M> / N;

  __device__ __forceinline__ void load(const Planes& t, const Tile<N>& tile, int64_t y, int maps, bool inside) {
    const int64_t from = first(t, tile, y), triplet = opaque(3 * t.channel);
#pragma unroll
    for (int m = 0; m < kMaps; m += kGroup) {
      const bool has = inside && m + tile.lane % kGroup < maps;
      if (m < maps) packs_[m / kGroup] = cuda::load<M, kGroup * N>(t, from + m * triplet, has);
    }
  }

  // Between loading and taking, and between giving and storing, of a group's first map.
  __device__ __forceinline__ void transpose(int m, const Tile<N>& tile) {
    if (m % kGroup == 0) packs_[m / kGroup].template transpose<kGroup>(tile.lane);
  }
  __device__ __forceinline__ float get(int m, int i) const { return packs_[m / kGroup].get(m % kGroup * N + i); }
  __device__ __forceinline__ void set(int m, int i, float x) { packs_[m / kGroup].set(m % kGroup * N + i, x); }

  __device__ __forceinline__ void tangents(const Tile<N>& tile, int maps, float (&a)[kMaps][N]) {
#pragma unroll
    for (int m = 0; m < kMaps; ++m) {
      if (m >= maps) continue;
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

// Float32, T = 8: 108 bytes read a pixel, and half a byte of means written. kMaps: 1 where maps are shared, else the
// largest T. partials are for objective_sums to add up.
template <class M, int N, int kMaps>
__global__ void __launch_bounds__(kThreads) objective_forward(const ObjectiveForward o, const ObjectiveShape shape) {
  const Planes &image = o.image, &logits = o.logits;
  constexpr int kAcross = kWarp * N / kRegion, kDown = kTileRows / kRegion;
  constexpr int kOwn = N < kRegion ? 1 : N / kRegion;  // regions that a thread has a row of
  __shared__ float enhanced_sums[3][kDown][kAcross], image_sums[3][kDown][kAcross];
  __shared__ float sums[kStack][3][3];

  const Tile<N> tile(shape);
  const int c = tile.colour, maps = kMaps == 1 ? 1 : shape.iterations;
  const int64_t beyond = tile.left + kWarp * N;  // the column after the warp's
  float a[kMaps][N];                             // A in row y
  Row<M, N, kMaps> next;
  next.load(logits, tile, tile.first, maps, tile.inside && tile.first < shape.height);
  next.tangents(tile, maps, a);

  float channel_sum = 0, tv_y = 0, tv_x = 0;
  float enhanced_region[kOwn] = {}, image_region[kOwn] = {};
#pragma unroll 1
  for (int64_t y = tile.first; y < tile.last; ++y) {
    const bool below = y + 1 < shape.height;
    next.load(logits, tile, y + 1, maps, tile.inside && below);
    float x[N];
    load<N>(image, tile.in(image, c, y, tile.x), tile.inside, x);
    // Lane t has the column beyond of map t.
    const float edge = tangent<M>(logits, tile, tile.lane, y, beyond, tile.lane < maps && beyond < shape.width);

#pragma unroll
    for (int i = 0; i < N; ++i) image_region[i / kRegion] += x[i];
    float row_y = 0, row_x = 0;  // summed apart, so that no long sum loses its last bits
#pragma unroll
    for (int t = 0; t < kMaps; ++t) {
      if (t < maps) {
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
          const float lower = below ? hyperbolic_tangent(next.get(t, i)) : a[t][i], dy = lower - a[t][i];
          row_y += dy * dy;
          a[t][i] = lower;
        }
      }
    }
    tv_y += row_y, tv_x += row_x;
    float row = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) row += x[i], enhanced_region[i / kRegion] += x[i];
    channel_sum += row;

    if (y % kRegion == kRegion - 1) {
      const int row_of = static_cast<int>(y - tile.top) / kRegion;
#pragma unroll
      for (int j = 0; j < kOwn; ++j) {
        float e = enhanced_region[j], i = image_region[j];
#pragma unroll
        for (int with = 1; with < kRegion / N; with *= 2) {
          e += __shfl_xor_sync(kAll, e, with), i += __shfl_xor_sync(kAll, i, with);
        }
        const int across = (tile.lane * N + j * kRegion) / kRegion;
        if (tile.lane * N % kRegion == 0) enhanced_sums[c][row_of][across] = e, image_sums[c][row_of][across] = i;
        enhanced_region[j] = image_region[j] = 0;
      }
    }
  }

  channel_sum = warp_sum(channel_sum), tv_y = warp_sum(tv_y), tv_x = warp_sum(tv_x);
  if (tile.lane == 0) {
    float (&to)[3] = sums[tile.stack][c];
    to[0] = channel_sum, to[1] = tv_y, to[2] = tv_x;
  }
  __syncthreads();

  for (int i = threadIdx.x; i < kDown * kAcross; i += kThreads) {
    const int down = i / kAcross, across = i % kAcross;
    const int64_t row = tile.top / kRegion + down, column = tile.left / kRegion + across;
    const bool complete = row < shape.height / kRegion && column < shape.width / kRegion;
    constexpr float kMean = 1.0f / (3 * kRegion * kRegion);
    if (complete) {
      const float (&e)[3][kDown][kAcross] = enhanced_sums, (&m)[3][kDown][kAcross] = image_sums;
      store_float(o.enhanced_regions, tile.in(o.enhanced_regions, 0, row, column),
                  (e[0][down][across] + e[1][down][across] + e[2][down][across]) * kMean);
      store_float(o.image_regions, tile.in(o.image_regions, 0, row, column),
                  (m[0][down][across] + m[1][down][across] + m[2][down][across]) * kMean);
    }
  }
  if (threadIdx.x < kSums) {
    const int v = threadIdx.x;
    float sum = 0;
#pragma unroll
    for (int s = 0; s < kStack; ++s) {
      sum += v < 3 ? sums[s][v][0] : sums[s][0][v - 2] + sums[s][1][v - 2] + sums[s][2][v - 2];
    }
    o.partials[(v * shape.batch + tile.b) * tiles_per_image(shape, N) + tile.index] = sum;
  }
}

constexpr int kSumThreads = 256;

// The tiles' sums to channel means and TV sums. Grid: 3 B + 2, a block a result. In double, so that even the 25,000
// tiles of 100 megapixels lose nothing that float32 could show; the order depends on the shape alone.
template <class Unused = void>  // a template, so that two sources may include it
__global__ void __launch_bounds__(kSumThreads)
    objective_sums(const ObjectiveForward o, int64_t tiles, const ObjectiveShape shape) {
  __shared__ double warps[kSumThreads / kWarp];
  const int64_t images = shape.batch, block = blockIdx.x, b = block / 3;
  const bool mean = block < 3 * images;
  const int c = static_cast<int>(block % 3), direction = static_cast<int>(block - 3 * images);
  const float* from = o.partials + (mean ? c * images + b : (3 + direction) * images) * tiles;
  const int64_t count = mean ? tiles : images * tiles;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) sum += from[i];
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0;
    for (int w = 0; w < kSumThreads / kWarp; ++w) total += warps[w];
    if (mean) {
      store_float(o.channel_means, b * o.channel_means.batch + c * o.channel_means.channel,
                  static_cast<float>(total / static_cast<double>(shape.height * shape.width)));
    } else {
      store_float(o.tv_sums, direction * o.tv_sums.pixel, static_cast<float>(total));
    }
  }
}

// Float32, T = 8: 108 bytes read and 96 written a pixel. tanh and the steps are computed again, forward saves nothing.
//
// A warp walks down as in forward, but each map's gradient takes the differences to all four neighbours: besides A in
// row y a thread keeps the difference to the row above, and the gradient grows in its place.
template <class M, int N, int kMaps, int kSteps>
__global__ void __launch_bounds__(kThreads) objective_backward(const ObjectiveBackward o, const ObjectiveShape shape) {
  constexpr int kOwn = N < kRegion ? 1 : N / kRegion;  // regions that a thread has a row of
  const Planes &image = o.image, &logits = o.logits;
  const Tile<N> tile(shape);
  const int c = tile.colour, maps = kMaps == 1 ? 1 : shape.iterations;
  if (tile.first >= tile.last) return;  // the whole warp is below the image

  const float two_y = 2 * load_float(o.grad_tv, 0), two_x = 2 * load_float(o.grad_tv, o.grad_tv.pixel);
  const float grad_mean = load_float(o.grad_channels, tile.b * o.grad_channels.batch + c * o.grad_channels.channel) /
                          static_cast<float>(shape.height * shape.width);

  // A in row y, and first A in row y less that in row y - 1 (0 in the first row), then what row y's gradient is so far.
  float a[kMaps][N], grad[kMaps][N];
  Row<M, N, kMaps> next;
  next.load(logits, tile, tile.first > 0 ? tile.first - 1 : 0, maps, tile.inside);
  next.tangents(tile, maps, grad);
  next.load(logits, tile, tile.first, maps, tile.inside);
  next.tangents(tile, maps, a);
#pragma unroll
  for (int t = 0; t < kMaps; ++t) {
#pragma unroll
    for (int i = 0; i < N; ++i) grad[t][i] = t < maps ? a[t][i] - grad[t][i] : 0.0f;
  }

#pragma unroll 1
  for (int64_t y = tile.first; y < tile.last; ++y) {
    const bool below = y + 1 < shape.height;
    next.load(logits, tile, y + 1, maps, tile.inside && below);
    // Lane t has the column before the warp's of map t, lane 16 + t the one beyond.
    const int map = tile.lane % kMaxIterations;
    const int64_t column = tile.lane < kMaxIterations ? tile.left - 1 : tile.left + kWarp * N;
    const float edge = tangent<M>(logits, tile, map, y, column, map < maps && column >= 0 && column < shape.width);
    float start[N], g[N];
    load<N>(image, tile.in(image, c, y, tile.x), tile.inside, start);
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int64_t row = y / kRegion, across = tile.x / kRegion + j;
      const bool complete = row < shape.height / kRegion && across < shape.width / kRegion;
      const float grad_region = load_float(o.grad_regions, tile.in(o.grad_regions, 0, row, across), complete);
#pragma unroll
      for (int i = 0; i < N / kOwn; ++i) {
        g[j * (N / kOwn) + i] = grad_mean + grad_region * (1.0f / (3 * kRegion * kRegion));
      }
    }

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
      steps_backward<kSteps>(start[i], g[i], shape.iterations, map_of, give);
      if (kMaps == 1) grad[0][i] = two_y * grad[0][i] + shared;
    }
    // What the other three neighbours ask, and tanh's own slope.
#pragma unroll
    for (int t = 0; t < kMaps; ++t) {
      if (t < maps) {
        next.transpose(t, tile);
        const float far = __shfl_sync(kAll, edge, tile.lane == 0 ? t : kMaxIterations + t);
        float left = before(tile, a[t], far);
        const float last = after(tile, a[t], far, shape.width);
#pragma unroll
        for (int i = 0; i < N; ++i) {
          const float here = a[t][i], right = i + 1 < N ? a[t][i + 1 < N ? i + 1 : 0] : last;
          const float lower = below ? hyperbolic_tangent(next.get(t, i)) : here, dy = lower - here;
          next.set(t, i, (grad[t][i] - two_y * dy + two_x * ((here - left) - (right - here))) * (1 - here * here));
          grad[t][i] = dy, a[t][i] = lower, left = here;
        }
        next.store(o.grad_logits, tile, y, maps, t);
      }
    }
  }
}

// Host side: which kernel, over which grid. `launch(kernel, blocks, threads, arguments...)` starts it.

// Floats that forward wants for the tiles' sums: at one pixel a thread tiles are smallest.
inline int64_t objective_partials(const ObjectiveShape& s) { return kSums * s.batch * tiles_per_image(s, 1); }

template <class M, int kMaps, class Launch>
void launch_objective_forward(const Launch& launch, const ObjectiveForward& o, const ObjectiveShape& s) {
  constexpr int n = kPixels<M, kMaps>;
  const bool wide = packs(o.image, s.width, n) && packs(o.logits, s.width, kPack<M>);
  const int64_t tiles = tiles_per_image(s, wide ? n : 1);
  launch(wide ? objective_forward<M, n, kMaps> : objective_forward<M, 1, kMaps>, s.batch * tiles, kThreads, o, s);
  launch(objective_sums<>, 3 * s.batch + 2, kSumThreads, o, tiles, s);
}

template <class M, int kMaps, int kSteps, class Launch>
void launch_objective_backward(const Launch& launch, const ObjectiveBackward& o, const ObjectiveShape& s) {
  constexpr int n = kPixels<M, kMaps>;
  const bool wide =
      packs(o.image, s.width, n) && packs(o.logits, s.width, kPack<M>) && packs(o.grad_logits, s.width, kPack<M>);
  launch(wide ? objective_backward<M, n, kMaps, kSteps> : objective_backward<M, 1, kMaps, kSteps>,
         s.batch * tiles_per_image(s, wide ? n : 1), kThreads, o, s);
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
