// A whole network and its curve in one kernel, on tensor cores: from pixels to pixels, or to curve maps. Feature maps
// never leave shared memory; from uint8 to uint8, 6 bytes a pixel are moved, and the strip's margin.
//
// As on the CPU (csrc/core/kernels/pass.h), a block goes down a strip of columns, four rows of each layer in turn,
// which lie in rings of as many rows as later layers read. Each of its warps has 16 columns, in all layers: their 3 x 3
// convolution is a product of 16 pixels' channels and 8 outputs' weights for each tap, and a row of pixels that was
// loaded counts for three rows of outputs. Each layer knows a column less on either side than the one before, so that
// 16 S columns of S warps give 16 S - 2 L results of L layers.
//
// Of a separable layer, each lane computes the depthwise filters of just the pixels and channels that are its share of
// the operand of the 1 x 1 filters' product: nothing changes lanes in between.
#pragma once

#include "../core/pass_geometry.h"
#include "tensor_core.cuh"

namespace zdce::cuda {

constexpr int kMostLayers = 8, kMostSources = 2, kMostTiles = 4;
constexpr int kImageRing = 8;   // rows: the first layer reads 6, while 4 more come
constexpr int kOutputTile = 8;  // channels of one product's results

// Blocks of a processor and strips of each. With three tiles registers are kept for 12 warps, three for each of a
// processor's quarters; more tiles are of networks with more filters, whose rows are too large for a second block.
constexpr __host__ __device__ int most_together(int tiles) { return tiles <= 3 ? 2 : 1; }
constexpr __host__ __device__ int most_strips(int tiles) { return tiles <= 3 ? 6 : 8; }

struct FusedLayer {
  int sources[kMostSources], source_count;
  int blocks, tiles;      // of 16 and of 8 outputs
  int lead, first, ring;  // pass_geometry.h
  int memory;             // where the ring lies, in bytes
  int weights, bias;      // where they begin, in uint2 of all lanes and in floats
  int depthwise;          // likewise, in floats; of separable layers
};

// What is the same for all blocks.
struct FusedNetwork {
  FusedLayer layer[kMostLayers];
  int layers, maps, iterations;
  bool separable;
  int strips;        // of 16 columns, one for each warp of a block
  int image_planes;  // 2 where pixels have more than 8 bits: the value in the half type, and what it lacks
  int image;         // where it lies in shared memory, in bytes
  int shared_bytes;  // of a block
  int together;      // blocks on a processor at a time

  __host__ __device__ int columns() const { return 16 * strips; }
  __host__ __device__ int results() const { return columns() - 2 * layers; }
  __host__ __device__ int pitch() const { return columns() + 2; }  // a column on either side, which holds nothing
};

// Pictures (B, H, W, C) of any strides, in elements; uint8, uint16 or float in [0, 1].
struct Pixels {
  void* data;
  Element element;
  int64_t batch, row, column, channel;
};

struct NetworkJob {
  Pixels picture, result;
  const uint2* weights;
  const float* biases;
  int height, width;
  int rows;          // of a block, a multiple of 4
  int across, down;  // blocks of a picture
  float strength;
  const float* strengths;  // further factors, one for each picture, or null
  bool to_maps;            // the result is the maps times the strength, float
};

__device__ __forceinline__ float load_value(const Pixels& from, int64_t at) {
  switch (from.element) {
    case Element::kUint8:
      return static_cast<const uint8_t*>(from.data)[at] * (1.0f / 255);
    case Element::kUint16:
      return static_cast<const uint16_t*>(from.data)[at] * (1.0f / 65535);
    default:
      return static_cast<const float*>(from.data)[at];
  }
}

__device__ __forceinline__ void store_value(const Pixels& to, int64_t at, float v) {
  switch (to.element) {
    case Element::kUint8:
      static_cast<uint8_t*>(to.data)[at] = static_cast<uint8_t>(static_cast<int>(v * 255 + 0.5f));
      break;
    case Element::kUint16:
      static_cast<uint16_t*>(to.data)[at] = static_cast<uint16_t>(static_cast<int>(v * 65535 + 0.5f));
      break;
    default:
      static_cast<float*>(to.data)[at] = v;
  }
}

// H, __half or __nv_bfloat16, is the type of feature maps and weights; sums and depthwise filters are float. No layer
// has more than kMost tiles: registers are kept for that many.
template <class H, int kMost, bool kSeparable>
class NetworkPass {
 public:
  __device__ NetworkPass(const FusedNetwork& network, const NetworkJob& job, uint8_t* shared)
      : network_(network), job_(job), shared_(shared), warp_(threadIdx.x / kWarp), lane_(threadIdx.x % kWarp) {
    const int across = blockIdx.x % job.across, down = blockIdx.x / job.across % job.down;
    batch_ = blockIdx.x / job.across / job.down;
    top_ = down * job.rows, bottom_ = min(top_ + job.rows, job.height);
    left_ = across * network.results() - network.layers;
  }

  __device__ void run() {
    const int last = (bottom_ + kBandRows - 1) / kBandRows;
    int band = top_ / kBandRows + network_.layer[0].first;
    load_rows(first_row(0, band) - 3);
    load_rows(first_row(0, band) + 1);
    for (; band < last; ++band) {
      for (int l = 0; l < network_.layers; ++l) {
        __syncthreads();
        Values next;
        if (l == 1) fetch_rows(first_row(0, band) + 5, next);  // under way while the layer is computed
        if (band >= top_ / kBandRows + network_.layer[l].first) compute(l, first_row(l, band));
        if (l == 1) put_rows(first_row(0, band) + 5, next);
      }
    }
  }

 private:
  static constexpr int kFetched = 3;  // pixels of each thread: 4 rows of 16 S + 2 columns by 32 S threads
  struct Values {
    float v[kFetched][3];
  };

  // A lane's, of three rows of taps.
  template <int kTiles>
  struct Weights {
    uint2 taps[3][kTiles];
  };

  // Pixels that a lane finishes.
  static constexpr int kFinished = 2;

  // Maps of these pixels: of each of the four lanes that had some, tiles and two neighbours.
  template <int kTiles>
  struct Maps {
    float of[4][kFinished][kTiles][2];

    __device__ __forceinline__ float get(int pixel, int map) const {
      return of[map % kOutputTile / 2][pixel][map / kOutputTile][map % 2];
    }
  };

  const FusedNetwork& network_;
  const NetworkJob& job_;
  uint8_t* const shared_;
  const int warp_, lane_;
  int top_, bottom_, left_;  // left_: of the picture, where the strip's columns begin
  int64_t batch_;

  __device__ int first_row(int l, int band) const { return kBandRows * band + network_.layer[l].lead; }
  __device__ bool inside(int y, int x) const { return y >= 0 && y < job_.height && x >= 0 && x < job_.width; }

  // Four rows of the picture from y on, and a column beside the strip's on either side; 0 beside the picture.
  __device__ void load_rows(int y) {
    Values values;
    fetch_rows(y, values);
    put_rows(y, values);
  }

  __device__ void fetch_rows(int y, Values& values) const {
#pragma unroll
    for (int i = 0; i < kFetched; ++i) {
      const int at = threadIdx.x + i * blockDim.x, row = y + at / network_.pitch();
      const int x = left_ - 1 + at % network_.pitch();
      const bool read = at < kBandRows * network_.pitch() && inside(row, x);
      const int64_t from = batch_ * job_.picture.batch + row * job_.picture.row + x * job_.picture.column;
#pragma unroll
      for (int c = 0; c < 3; ++c)
        values.v[i][c] = read ? load_value(job_.picture, from + c * job_.picture.channel) : 0.0f;
    }
  }

  // In 255ths, which of 8 bits are exact in both types: the three colours of a pixel and a 0.
  __device__ void put_rows(int y, const Values& values) {
#pragma unroll
    for (int i = 0; i < kFetched; ++i) {
      const int at = threadIdx.x + i * blockDim.x;
      if (at >= kBandRows * network_.pitch()) break;
      float rest[3];
#pragma unroll
      for (int c = 0; c < 3; ++c) rest[c] = values.v[i][c] * 255;
      for (int plane = 0; plane < network_.image_planes; ++plane) {
        const uint2 stored = {pair<H>(rest[0], rest[1]), pair<H>(rest[2], 0.0f)};
        *reinterpret_cast<uint2*>(image_pixel(y + at / network_.pitch(), plane, at % network_.pitch())) = stored;
#pragma unroll
        for (int c = 0; c < 3; ++c) rest[c] -= widen<H>(narrow<H>(rest[c]));
      }
    }
  }

  // column: of the stored ones, the first of which is the one beside the strip.
  __device__ uint8_t* image_pixel(int y, int plane, int column) const {
    return shared_ + network_.image +
           (((y & (kImageRing - 1)) * network_.image_planes + plane) * network_.pitch() + column) * 8;
  }

  // Rows (blocks, columns, 16 channels) of the half type. Of a pixel's two halves of 16 bytes the second is the first
  // in every other four columns, so that the same half of 8 neighbours lies in all banks.
  template <int kNumber>
  __device__ void feature_rows(const FusedLayer& layer, int y, uint8_t* (&rows)[kNumber]) const {
    int row = static_cast<unsigned>(y + 64 * layer.ring) % layer.ring;
#pragma unroll
    for (int i = 0; i < kNumber; ++i) {
      rows[i] = shared_ + layer.memory + row * layer.blocks * network_.pitch() * 32;
      row = row + 1 == layer.ring ? 0 : row + 1;
    }
  }

  __device__ static int feature(int column, int half) { return column * 32 + (half ^ (column >> 2 & 1)) * 16; }

  __device__ void compute(int l, int y) {
    switch (network_.layer[l].tiles) {
      case 1:
        return compute<1>(l, y);
      case 2:
        return compute<2>(l, y);
      case 3:
        return compute<3>(l, y);
      case 4:
        if constexpr (kMost >= 4) return compute<4>(l, y);
    }
  }

  template <int kTiles>
  __device__ void compute(int l, int y) {
    const FusedLayer& layer = network_.layer[l];
    float sums[kBandRows][kTiles][4];
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const float* const bias = job_.biases + layer.bias + kOutputTile * j + 2 * (lane_ % 4);
#pragma unroll
      for (int r = 0; r < kBandRows; ++r)
        sums[r][j][0] = sums[r][j][2] = bias[0], sums[r][j][1] = sums[r][j][3] = bias[1];
    }
    if constexpr (kSeparable) {
      add_separable(layer, y, sums);
    } else {
      add_whole(layer, y, sums);
    }
    if (l + 1 == network_.layers) {
      finish(y, sums);
    } else {
      keep(layer, y, sums);
    }
  }

  template <int kTiles>
  __device__ void add_whole(const FusedLayer& layer, int y, float (&sums)[kBandRows][kTiles][4]) const {
    const uint2* weights = job_.weights + layer.weights + lane_;
    Weights<kTiles> w;
    take(weights, w);
    if (layer.source_count == 0) {
      for (int plane = 0; plane < network_.image_planes; ++plane) add_colors(y, plane, w, sums);
    }
    for (int s = 0; s < layer.source_count; ++s) {
      const FusedLayer& source = network_.layer[layer.sources[s]];
      uint8_t* rows[kBandRows + 2];
      feature_rows(source, y - 1, rows);
      for (int block = 0; block < source.blocks; ++block) add_block(rows, block, weights, w, sums);
    }
  }

  // A lane's share of a 16 x 16 operand as numbers: two pixels, and four channels of each.
  struct Share {
    float v[2][4];

    __device__ __forceinline__ void set(const uint32_t (&a)[4]) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        v[i % 2][i / 2 * 2] = widen<H>(a[i] & 0xffff);
        v[i % 2][i / 2 * 2 + 1] = widen<H>(a[i] >> 16);
      }
    }

    __device__ __forceinline__ void get(uint32_t (&a)[4]) const {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = pair<H>(v[i % 2][i / 2 * 2], v[i % 2][i / 2 * 2 + 1]);
    }
  };

  template <int kTiles>
  __device__ void add_separable(const FusedLayer& layer, int y, float (&sums)[kBandRows][kTiles][4]) const {
    const uint2* weights = job_.weights + layer.weights + lane_;
    const float4* filters = reinterpret_cast<const float4*>(job_.biases + layer.depthwise) + lane_ % 4;
    if (layer.source_count == 0) {
      add_filtered([&](int row, int tap, Share& share) { take_colors(y - 1 + row, tap, share); }, filters, weights,
                   sums);
    }
    for (int s = 0; s < layer.source_count; ++s) {
      const FusedLayer& source = network_.layer[layer.sources[s]];
      uint8_t* rows[kBandRows + 2];
      feature_rows(source, y - 1, rows);
      for (int block = 0; block < source.blocks; ++block) {
        const auto load = [&](int row, int tap, Share& share) {
          uint32_t a[4];
          const int column = 16 * warp_ + tap + lane_ % 16;
          load_operand(rows[row] + block * network_.pitch() * 32 + feature(column, lane_ / 16), a);
          share.set(a);
        };
        add_filtered(load, filters, weights, sums);
      }
    }
  }

  // Colours of the pixels whose stored column is the warp's own and `tap`: channels 2 t and 2 t + 1 are in the lanes t
  // = 0 and 1, others have filters of 0.
  __device__ void take_colors(int y, int tap, Share& share) const {
#pragma unroll
    for (int pixel = 0; pixel < 2; ++pixel) {
      const int column = 16 * warp_ + lane_ / 4 + 8 * pixel + tap;
      float* const v = share.v[pixel];
      v[0] = v[1] = v[2] = v[3] = 0;
      for (int plane = 0; plane < network_.image_planes; ++plane) {
        const uint8_t* const from = image_pixel(y, plane, column) + lane_ % 2 * 4;
        const uint32_t both = *reinterpret_cast<const uint32_t*>(from);
        v[0] += widen<H>(both & 0xffff), v[1] += widen<H>(both >> 16);
      }
    }
  }

  // Sixteen channels: their depthwise filters, then the products with the 1 x 1 filters. load(row, tap, share): of six
  // rows. filters: (bias and 9 taps by columns, lanes t, 4 channels); weights: (tiles, lanes); both move on.
  template <int kTiles, class Load>
  __device__ __forceinline__ static void add_filtered(const Load& load, const float4*& filters, const uint2*& weights,
                                                      float (&sums)[kBandRows][kTiles][4]) {
    uint2 w[kTiles];  // under way meanwhile
#pragma unroll
    for (int j = 0; j < kTiles; ++j) w[j] = weights[j * kWarp];
    Share filtered[kBandRows];
#pragma unroll
    for (int r = 0; r < kBandRows; ++r) {
#pragma unroll
      for (int pixel = 0; pixel < 2; ++pixel) put(*filters, filtered[r].v[pixel]);
    }
    filters += 4;
#pragma unroll 1
    for (int tap = 0; tap < 3; ++tap, filters += 12) {
      float taps[3][4];
#pragma unroll
      for (int i = 0; i < 3; ++i) put(filters[4 * i], taps[i]);
#pragma unroll
      for (int row = 0; row < kBandRows + 2; ++row) {
        Share share;
        load(row, tap, share);
#pragma unroll
        for (int i = 0; i < 3; ++i) {
          if (row < i || row - i >= kBandRows) continue;
#pragma unroll
          for (int k = 0; k < 8; ++k) filtered[row - i].v[k / 4][k % 4] += taps[i][k % 4] * share.v[k / 4][k % 4];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kBandRows; ++r) {
      uint32_t a[4];
      filtered[r].get(a);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) multiply_add<H>(sums[r][j], a, w[j]);
    }
    weights += kTiles * kWarp;
  }

  __device__ __forceinline__ static void put(float4 from, float (&to)[4]) {
    to[0] = from.x, to[1] = from.y, to[2] = from.z, to[3] = from.w;
  }

  // w: of three rows of taps, for 4 pixels of 4 values, of which the last are 0.
  template <int kTiles>
  __device__ void add_colors(int y, int plane, const Weights<kTiles>& w, float (&sums)[kBandRows][kTiles][4]) const {
    const int g = lane_ / 4, t = lane_ % 4,
              column = 16 * warp_ + g + t / 2;  // the stored one left of the first pixel's
#pragma unroll
    for (int row = 0; row < kBandRows + 2; ++row) {
      const uint8_t* const from = image_pixel(y - 1 + row, plane, column) + t % 2 * 4;
      const auto at = [&](int pixels) { return *reinterpret_cast<const uint32_t*>(from + 8 * pixels); };
      // The fourth pixel is not read: 0 times what is no number would be none.
      const uint32_t a[4] = {at(0), at(8), t < 2 ? at(2) : 0, t < 2 ? at(10) : 0};
      add_row(a, row, w, sums);
    }
  }

  // weights: (3 columns of taps, 3 rows of taps, tiles, lanes), then the next block's; w: of the first column. Those of
  // the next one are under way while a column is multiplied; behind the last layer's lie as many that nobody uses.
  template <int kTiles>
  __device__ void add_block(uint8_t* const (&rows)[kBandRows + 2], int block, const uint2*& weights, Weights<kTiles>& w,
                            float (&sums)[kBandRows][kTiles][4]) const {
    const int pixel = lane_ % 16, half = lane_ / 16;
#pragma unroll 1
    for (int tap = 0; tap < 3; ++tap) {
      Weights<kTiles> next;
      weights += 3 * kTiles * kWarp;
      take(weights, next);
      const int at = block * network_.pitch() * 32 + feature(16 * warp_ + tap + pixel, half);
#pragma unroll
      for (int row = 0; row < kBandRows + 2; ++row) {
        uint32_t a[4];
        load_operand(rows[row] + at, a);
        add_row(a, row, w, sums);
      }
      w = next;
    }
  }

  // weights: (3, tiles, lanes).
  template <int kTiles>
  __device__ static void take(const uint2* weights, Weights<kTiles>& w) {
#pragma unroll
    for (int i = 0; i < 3 * kTiles; ++i) w.taps[i / kTiles][i % kTiles] = weights[i * kWarp];
  }

  // Row `row` of six counts for the rows of outputs around it.
  template <int kTiles>
  __device__ static void add_row(const uint32_t (&a)[4], int row, const Weights<kTiles>& w,
                                 float (&sums)[kBandRows][kTiles][4]) {
#pragma unroll
    for (int tap = 0; tap < 3; ++tap) {
      const int r = row - tap;
      if (r < 0 || r >= kBandRows) continue;
#pragma unroll
      for (int j = 0; j < kTiles; ++j) multiply_add<H>(sums[r][j], a, w.taps[tap][j]);
    }
  }

  // Rectified; 0 beside the picture, where later layers read zeros.
  template <int kTiles>
  __device__ void keep(const FusedLayer& layer, int y, const float (&sums)[kBandRows][kTiles][4]) {
    const int g = lane_ / 4, t = lane_ % 4;
    uint8_t* rows[kBandRows];
    feature_rows(layer, y, rows);
#pragma unroll
    for (int r = 0; r < kBandRows; ++r) {
#pragma unroll
      for (int below = 0; below < 2; ++below) {
        const int column = 16 * warp_ + g + 8 * below;
        const bool kept = inside(y + r, left_ + column);
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const float* const v = sums[r][j] + 2 * below;
          uint8_t* const to = rows[r] + j / 2 * network_.pitch() * 32 + feature(column + 1, j % 2) + 4 * t;
          *reinterpret_cast<uint32_t*>(to) = kept ? pair<H>(rectified(v[0]), rectified(v[1])) : 0;
        }
      }
    }
  }

  __device__ static float rectified(float v) { return v < 0 ? 0 : v; }

  // Logits to pixels or maps. Four lanes have a pixel's logits, two of each tile; by exchange each gets all maps of two
  // of their eight pixels: lane t the column g + t % 2 * 8 in rows t / 2 * 2 and the next.
  template <int kTiles>
  __device__ void finish(int y, const float (&sums)[kBandRows][kTiles][4]) const {
    const int t = lane_ % 4, column = 16 * warp_ + lane_ / 4 + t % 2 * 8, row = y + t / 2 * kFinished;
    const bool own = column >= network_.layers && column < network_.layers + network_.results();
    const float strength = job_.strengths == nullptr ? job_.strength : job_.strength * job_.strengths[batch_];
    Maps<kTiles> maps;
#pragma unroll
    for (int to = 0; to < 4; ++to) {
#pragma unroll
      for (int i = 0; i < kFinished * kTiles * 2; ++i) {
        const int pixel = i / kTiles / 2, j = i / 2 % kTiles;
        const float sum = sums[to / 2 * kFinished + pixel][j][to % 2 * 2 + i % 2];
        maps.of[to][pixel][j][i % 2] = within(approximate_tangent(sum) * strength, 1.0f);
      }
    }
    exchange(maps);
#pragma unroll
    for (int pixel = 0; pixel < kFinished; ++pixel) {
      const int y_of = row + pixel, x = left_ + column;
      if (own && y_of < bottom_ && inside(y_of, x)) finish_pixel(y_of, x, pixel, maps);
    }
  }

  // What a lane has for lane t of its four, in place t, for what that lane had for it.
  template <int kTiles>
  __device__ void exchange(Maps<kTiles>& maps) const {
#pragma unroll
    for (int with = 1; with < 4; with *= 2) {
      const bool upper = (lane_ & with) != 0;
#pragma unroll
      for (int to = 0; to < 4; ++to) {
        if ((to & with) != 0) continue;
#pragma unroll
        for (int i = 0; i < kFinished * kTiles * 2; ++i) {
          float& low = maps.of[to][i / kTiles / 2][i / 2 % kTiles][i % 2];
          float& high = maps.of[to + with][i / kTiles / 2][i / 2 % kTiles][i % 2];
          const float taken = __shfl_xor_sync(kAll, upper ? low : high, with);
          (upper ? low : high) = taken;
        }
      }
    }
  }

  template <int kTiles>
  __device__ void finish_pixel(int y, int x, int pixel, const Maps<kTiles>& maps) const {
    const int64_t to = batch_ * job_.result.batch + y * job_.result.row + x * job_.result.column;
    constexpr int kMaps = kTiles * kOutputTile;
    if (job_.to_maps) {
#pragma unroll
      for (int k = 0; k < kMaps; ++k) {
        if (k < network_.maps) {
          static_cast<float*>(job_.result.data)[to + k * job_.result.channel] = maps.get(pixel, k);
        }
      }
      return;
    }
    const int64_t from = batch_ * job_.picture.batch + y * job_.picture.row + x * job_.picture.column;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      float v = load_value(job_.picture, from + c * job_.picture.channel);
      if (kTiles == 1 && network_.maps == 3) {  // of all steps
        for (int t = 0; t < network_.iterations; ++t) v = step(v, maps.get(pixel, c));
      } else {
#pragma unroll
        for (int t = 0; t < kMaps / 3; ++t) {
          if (t < network_.iterations) v = step(v, maps.get(pixel, 3 * t + c));
        }
      }
      store_value(job_.result, to + c * job_.result.channel, v);
    }
  }
};

template <class H, int kMost, bool kSeparable>
__global__ void __launch_bounds__(most_strips(kMost) * kWarp, most_together(kMost))
    network_forward(const __grid_constant__ FusedNetwork network, const __grid_constant__ NetworkJob job) {
  NetworkPass<H, kMost, kSeparable>(network, job, dynamic_shared()).run();
}

// What of a GPU decides how a network is laid out.
struct GpuLimits {
  int processors, shared_a_block, shared_a_processor;  // bytes
};

// A network that the kernel can't run, or not on this GPU.
struct Unfit : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The network in so many strips a block. Throws Unfit.
inline FusedNetwork fused_network(const Network& network, int strips, bool eight_bits) {
  const auto refuse = [](const char* why) { throw Unfit(std::string("zdce: the fused kernel takes no ") + why); };
  const Geometry geometry(network);
  FusedNetwork fused{};
  fused.layers = static_cast<int>(network.layers.size());
  if (fused.layers > kMostLayers) refuse("more than 8 layers");
  fused.separable = network.separable, fused.maps = network.maps, fused.iterations = network.iterations;
  fused.strips = strips, fused.image_planes = eight_bits ? 1 : 2;
  int memory = 0, weights = 0, bias = 0;
  for (int l = 0; l < fused.layers; ++l) {
    const Layer& from = network.layers[l];
    FusedLayer& to = fused.layer[l];
    if (from.sources.size() > kMostSources) refuse("layer that reads more than two");
    to.source_count = static_cast<int>(from.sources.size());
    std::copy(from.sources.begin(), from.sources.end(), to.sources);
    const bool last = l + 1 == fused.layers;
    if (!last && from.outputs != 16 && from.outputs != 32) refuse("layer of other than 16 or 32 filters");
    to.blocks = blocks_of(from.outputs), to.tiles = (from.outputs + kOutputTile - 1) / kOutputTile;
    if (to.tiles > kMostTiles) refuse("more than 32 maps");
    to.lead = geometry.lead[l], to.first = geometry.first[l], to.ring = geometry.ring[l];
    to.memory = memory, to.weights = weights, to.bias = bias;
    memory += to.ring * to.blocks * fused.pitch() * 32;
    const int blocks = l == 0 ? 1 : from.inputs / kBlock, taps = network.separable ? 1 : l == 0 ? 3 : 9;
    weights += blocks * taps * to.tiles * kWarp;
    bias += to.tiles * kOutputTile;
    to.depthwise = bias;
    if (network.separable) bias += blocks * 10 * kBlock;
  }
  fused.image = memory;
  fused.shared_bytes = fused.image + kImageRing * fused.image_planes * fused.pitch() * 8;
  return fused;
}

// Of each block, by CUDA itself.
constexpr int kReserved = 1024;

// Of the kernels, by their registers, the least that has enough; separable networks have one.
inline int most_tiles(const FusedNetwork& network) {
  int most = network.separable ? kMostTiles : 3;
  for (int l = 0; l < network.layers; ++l) most = std::max(most, network.layer[l].tiles);
  return most;
}

// What a warp does in a quarter of a processor that it has for itself, where nothing else is done while it waits.
constexpr double kAlone = 0.8;

// Two blocks a processor, one of which works where the other waits, if each can have four strips, else one: of the
// divisions that fit the one with most results for the warps that the fullest of the processor's quarters has.
inline FusedNetwork laid_out(const Network& network, bool eight_bits, const GpuLimits& gpu) {
  const int tiles = most_tiles(fused_network(network, 1, eight_bits));
  for (int together = most_together(tiles); together > 0; --together) {
    const int most = std::min(gpu.shared_a_block, gpu.shared_a_processor / together - kReserved);
    FusedNetwork best{};
    double most_results = 0;
    for (int strips = together == 2 ? 4 : 2; strips <= most_strips(tiles); ++strips) {
      FusedNetwork fused = fused_network(network, strips, eight_bits);
      if (fused.results() <= 0 || fused.shared_bytes > most) continue;
      fused.together = together;
      const int quarter = (together * strips + 3) / 4;
      const double results = (quarter == 1 ? kAlone : 1.0) * together * fused.results() / quarter;
      if (results > most_results) most_results = results, best = fused;
    }
    if (most_results > 0) return best;
  }
  throw Unfit("zdce: the network's rows don't fit into the GPU's shared memory");
}

// Rows of a block: of all divisions of the height, the one after which the blocks, taken by the processors in turns,
// are done soonest. Each computes some rows above its own again.
inline int rows_of_blocks(const FusedNetwork& network, int height, int64_t strips, const GpuLimits& gpu) {
  const int64_t at_once = int64_t{gpu.processors} * network.together;
  const int above = -kBandRows * network.layer[0].first;
  int best = round_up(height, kBandRows);
  double least = 1e300;
  for (int down = 1; down <= (height + 31) / 32; ++down) {
    const int rows = round_up((height + down - 1) / down, kBandRows);
    const int64_t blocks = strips * ((height + rows - 1) / rows);
    const double turns = static_cast<double>((blocks + at_once - 1) / at_once) * (rows + above);
    if (turns < least) least = turns, best = rows;
  }
  return best;
}

// pictures: (batch, height, width). Fills in the job's blocks. H is __half or __nv_bfloat16.
template <class H, class Launch>
void launch_network(const Launch& launch, const Network& network, NetworkJob job, int64_t batch, const GpuLimits& gpu) {
  if (batch == 0 || job.height == 0 || job.width == 0) return;
  const FusedNetwork fused = laid_out(network, job.picture.element == Element::kUint8, gpu);
  job.across = (job.width + fused.results() - 1) / fused.results();
  job.rows = rows_of_blocks(fused, job.height, batch * job.across, gpu);
  job.down = (job.height + job.rows - 1) / job.rows;
  const auto kernel = fused.separable          ? network_forward<H, kMostTiles, true>
                      : most_tiles(fused) <= 3 ? network_forward<H, 3, false>
                                               : network_forward<H, kMostTiles, false>;
  // What is left beside it caches the weights, which all blocks read again for every four rows.
  const int64_t needed = int64_t{fused.together} * (fused.shared_bytes + kReserved);
  const int share = static_cast<int>((100 * needed + gpu.shared_a_processor - 1) / gpu.shared_a_processor);
  launch.with_shared(kernel, batch * job.across * job.down, fused.strips * kWarp, fused.shared_bytes, share, fused,
                     job);
}

}  // namespace zdce::cuda
