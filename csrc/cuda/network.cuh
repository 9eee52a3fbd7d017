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

#include <utility>

#include "../core/pass_geometry.h"
#include "tensor_core.cuh"

namespace zdce::cuda {

constexpr int kMostLayers = 8, kMostSources = 2, kMostTiles = 4;
constexpr int kImageRing = 8;   // rows: the first layer reads 6, while 4 more come
constexpr int kOutputTile = 8;  // channels of one product's results

// Warps of a processor: three, or two, for each of its quarters, among whose lanes the registers are divided. With at
// most three tiles a layer 168 registers a thread are enough.
constexpr __host__ __device__ int most_warps(int tiles) { return tiles <= 3 ? 12 : 8; }

struct FusedLayer {
  int sources[kMostSources], source_count;
  int blocks, tiles;      // of 16 and of 8 outputs
  int lead, first, ring;  // pass_geometry.h
  int memory;             // where the ring lies, in bytes
  int row_bytes;          // of all blocks
  uint32_t reciprocal;    // 2^32 over the ring's rows, rounded up: v modulo these is found without a division
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

// Reads and writes values of pictures in one type.
template <class S>
struct Values {
  static constexpr float kWhite = std::is_same_v<S, uint8_t> ? 255 : std::is_same_v<S, uint16_t> ? 65535 : 1;

  // As they lie in memory, so that nothing waits for them before `value`; 0 means 0.
  __device__ __forceinline__ static uint32_t load(const Pixels& from, int64_t at) {
    if constexpr (std::is_same_v<S, float>) {
      return __float_as_uint(static_cast<const float*>(from.data)[at]);
    } else {
      return static_cast<const S*>(from.data)[at];
    }
  }

  // In [0, kTop].
  template <int kTop>
  __device__ __forceinline__ static float value(uint32_t bits) {
    if constexpr (std::is_same_v<S, float>) {
      return __uint_as_float(bits) * kTop;
    } else {
      return static_cast<float>(bits) * (kTop / kWhite);
    }
  }

  __device__ __forceinline__ static void store(const Pixels& to, int64_t at, float v) {
    if constexpr (std::is_same_v<S, float>) {
      static_cast<float*>(to.data)[at] = v;
    } else {
      static_cast<S*>(to.data)[at] = static_cast<S>(static_cast<int>(v * kWhite + 0.5f));
    }
  }
};

// use(Values): with the type of `element`.
template <class Use>
__device__ __forceinline__ void with_values(Element element, const Use& use) {
  switch (element) {
    case Element::kUint8:
      return use(Values<uint8_t>());
    case Element::kUint16:
      return use(Values<uint16_t>());
    default:
      return use(Values<float>());
  }
}

// H, __half or __nv_bfloat16, is the type of feature maps and weights; sums and depthwise filters are float. No layer
// has more than kMost tiles: registers are kept for that many.
template <class H, int kMost, bool kSeparable>
class NetworkPass {
 public:
  __device__ NetworkPass(const FusedNetwork& network, const NetworkJob& job)
      : network_(network),
        job_(job),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp),
        shared_(dynamic_shared()) {
    const int across = blockIdx.x % job.across, down = blockIdx.x / job.across % job.down;
    const int64_t batch = blockIdx.x / job.across / job.down;
    first_band_ = down * job.rows / kBandRows, bottom_ = min((down + 1) * job.rows, job.height);
    left_ = across * network.results() - network.layers;
    strength_ = job.strengths == nullptr ? job.strength : job.strength * job.strengths[batch];
    const int g = lane_ / 4, t = lane_ % 4, column = 16 * warp_;
#pragma unroll
    for (int tap = 0; tap < 3; ++tap) tap_[tap] = shared_ + feature(column + tap + lane_ % 16, lane_ / 16);
    kept_ = shared_ + feature(column + g + 1, 0) + 4 * t;
#pragma unroll
    for (int below = 0; below < 2; ++below) mask_[below] = inside(left_ + column + g + 8 * below) ? kAll : 0;
    fetched_row_ = threadIdx.x / network.columns(), fetched_column_ = threadIdx.x % network.columns() + 1;
    if (threadIdx.x < 2 * kBandRows) {
      beside_row_ = threadIdx.x / 2, beside_column_ = threadIdx.x % 2 * (network.columns() + 1);
    }
    finished_ = column + g + t % 2 * 8;
    const bool own = finished_ >= network.layers && finished_ < network.layers + network.results();
    finishes_ = own && inside(left_ + finished_);
    from_ = batch * job.picture.batch, to_ = batch * job.result.batch + (left_ + finished_) * job.result.column;
  }

  __device__ void run() {
    const int last = (bottom_ + kBandRows - 1) / kBandRows;
    int band = first_band_ + network_.layer[0].first;
    load_rows(first_row(0, band) - 3);
    load_rows(first_row(0, band) + 1);
    for (; band < last; ++band) {
      for (int l = 0; l < network_.layers; ++l) {
        const FusedLayer layer = network_.layer[l];
        Fetched next;
        if (l == 1) fetch_rows(first_row(0, band) + 5, next);  // under way while the layer is computed
        if (band >= first_band_ + layer.first) {
          compute(l, layer, kBandRows * band + layer.lead);
        } else {
          __syncthreads();
        }
        if (l == 1) put_rows(first_row(0, band) + 5, next);
      }
    }
  }

 private:
  // Pixels that each thread brings of four rows of 16 S columns, by 32 S threads; few bring one more, beside the strip.
  static constexpr int kFetched = 2;
  struct Fetched {
    uint32_t v[kFetched + 1][3];  // as they lie in the picture
  };

  // A lane's, of three rows of taps: their tiles.
  template <int kTiles>
  struct Weights {
    uint2 taps[3 * kTiles];
  };

  // A lane's operands, of the six rows that four rows of outputs read.
  struct Operands {
    uint32_t rows[kBandRows + 2][4];
  };

  // Where so many rows of a ring begin.
  template <int kNumber>
  struct Rows {
    SharedAddress at[kNumber];
  };

  // Pixels that a lane finishes.
  static constexpr int kFinished = 2;

  // Maps of these pixels, in halves: of each of the four lanes that had some, tiles of two neighbours.
  template <int kTiles>
  struct Maps {
    uint32_t of[4][kFinished][kTiles];

    __device__ __forceinline__ float get(int pixel, int map) const {
      return widen<__half>(of[map % kOutputTile / 2][pixel][map / kOutputTile] >> map % 2 * 16);
    }
  };

  const FusedNetwork& network_;
  const NetworkJob& job_;
  const int warp_, lane_;
  const SharedAddress shared_;
  int first_band_, bottom_, left_;  // left_: of the picture, where the strip's columns begin
  float strength_;
  int64_t from_, to_;                 // the picture, and of the result's the column that the lane finishes
  SharedAddress tap_[3];              // in a row of features: the lane's row of an operand, for each column of taps
  SharedAddress kept_;                // likewise: the first half of the first pixel that the lane keeps
  uint32_t mask_[2];                  // of the lane's two columns, 0 beside the picture
  int finished_;                      // column of the strip
  bool finishes_;                     // whether there is a result
  int fetched_row_, fetched_column_;  // of the first pixel that the thread brings; the others are two rows apart
  int beside_row_ = -1, beside_column_ = 0;

  __device__ int first_row(int l, int band) const { return kBandRows * band + network_.layer[l].lead; }
  __device__ bool inside(int x) const { return x >= 0 && x < job_.width; }
  __device__ bool is_row(int y) const { return y >= 0 && y < job_.height; }

  // Four rows of the picture from y on, and a column beside the strip's on either side; 0 beside the picture.
  __device__ void load_rows(int y) {
    Fetched values;
    fetch_rows(y, values);
    put_rows(y, values);
  }

  __device__ void fetch_rows(int y, Fetched& values) const {
    with_values(job_.picture.element, [&](auto type) {
#pragma unroll
      for (int i = 0; i < kFetched; ++i) fetch<decltype(type)>(y + fetched_row_ + 2 * i, fetched_column_, values.v[i]);
      if (beside_row_ >= 0) fetch<decltype(type)>(y + beside_row_, beside_column_, values.v[kFetched]);
    });
  }

  // column: of the stored ones, the first of which is the one beside the strip.
  template <class Type>
  __device__ __forceinline__ void fetch(int y, int column, uint32_t (&v)[3]) const {
    const int x = left_ - 1 + column;
    v[0] = v[1] = v[2] = 0;
    if (!is_row(y) || !inside(x)) return;
    const int64_t at = from_ + y * job_.picture.row + x * job_.picture.column;
#pragma unroll
    for (int c = 0; c < 3; ++c) v[c] = Type::load(job_.picture, at + c * job_.picture.channel);
  }

  __device__ void put_rows(int y, const Fetched& values) const {
    with_values(job_.picture.element, [&](auto type) {
#pragma unroll
      for (int i = 0; i < kFetched; ++i) {
        put_pixel<decltype(type)>(y + fetched_row_ + 2 * i, fetched_column_, values.v[i]);
      }
      if (beside_row_ >= 0) put_pixel<decltype(type)>(y + beside_row_, beside_column_, values.v[kFetched]);
    });
  }

  // In 255ths, which of 8 bits are exact in both types: the three colours of a pixel and a 0.
  template <class Type>
  __device__ __forceinline__ void put_pixel(int y, int column, const uint32_t (&bits)[3]) const {
    const SharedAddress at = image_pixel(y, 0, column);
    const float v[3] = {Type::template value<255>(bits[0]), Type::template value<255>(bits[1]),
                        Type::template value<255>(bits[2])};
    const uint2 stored = {pair<H>(v[0], v[1]), pair<H>(v[2], 0.0f)};
    store_words(at, stored);
    if constexpr (!std::is_same_v<Type, Values<uint8_t>>) {
      const float rest[3] = {v[0] - widen<H>(stored.x & 0xffff), v[1] - widen<H>(stored.x >> 16),
                             v[2] - widen<H>(stored.y & 0xffff)};
      store_words(at + network_.pitch() * 8, {pair<H>(rest[0], rest[1]), pair<H>(rest[2], 0.0f)});
    }
  }

  __device__ SharedAddress image_pixel(int y, int plane, int column) const {
    return shared_ + network_.image +
           (((y & (kImageRing - 1)) * network_.image_planes + plane) * network_.pitch() + column) * 8;
  }

  // Rows (blocks, columns, 16 channels) of the half type. Of a pixel's two halves of 16 bytes the second is the first
  // in every other four columns, so that the same half of 8 neighbours lies in all banks. What is at[i] is added to a
  // lane's place in a row: it is the same for all lanes.
  template <int kNumber>
  __device__ __forceinline__ Rows<kNumber> feature_rows(const FusedLayer& layer, int y) const {
    // Not below 0: a block's rows begin less than 64 above the picture, and a ring has at least 5.
    const uint32_t from = y + 64 * layer.ring;
    const int row = static_cast<int>(from - __umulhi(from, layer.reciprocal) * layer.ring);
    const SharedAddress end = layer.memory + layer.ring * layer.row_bytes;
    Rows<kNumber> rows;
    rows.at[0] = layer.memory + row * layer.row_bytes;
#pragma unroll
    for (int i = 1; i < kNumber; ++i) {
      rows.at[i] = rows.at[i - 1] + layer.row_bytes;
      if (rows.at[i] == end) rows.at[i] = layer.memory;
    }
    return rows;
  }

  __device__ static int feature(int column, int half) { return column * 32 + (half ^ (column >> 2 & 1)) * 16; }

  // Waits for the layers before, after it has asked for weights.
  __device__ void compute(int l, const FusedLayer& layer, int y) {
    if (l + 1 < network_.layers) {
      if constexpr (kMost >= 4) {
        if (layer.tiles == 4) return compute_hidden<4>(layer, y);
      }
      return compute_hidden<2>(layer, y);
    }
    switch (layer.tiles) {
      case 1:
        return compute_last<1>(layer, y);
      case 2:
        return compute_last<2>(layer, y);
      case 3:
        return compute_last<3>(layer, y);
      case 4:
        if constexpr (kMost >= 4) return compute_last<4>(layer, y);
    }
  }

  template <int kTiles>
  __device__ void compute_hidden(const FusedLayer& layer, int y) {
    float sums[kBandRows][kTiles][4];
    add_layer(layer, y, sums);
    keep(layer, y, sums);
  }

  template <int kTiles>
  __device__ void compute_last(const FusedLayer& layer, int y) {
    float sums[kBandRows][kTiles][4];
    add_layer(layer, y, sums);
    finish(y, sums);
  }

  template <int kTiles>
  __device__ __forceinline__ void add_layer(const FusedLayer& layer, int y, float (&sums)[kBandRows][kTiles][4]) const {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const float2 bias =
          *reinterpret_cast<const float2*>(job_.biases + layer.bias + kOutputTile * j + 2 * (lane_ % 4));
#pragma unroll
      for (int r = 0; r < kBandRows; ++r)
        sums[r][j][0] = sums[r][j][2] = bias.x, sums[r][j][1] = sums[r][j][3] = bias.y;
    }
    if constexpr (kSeparable) {
      __syncthreads();
      add_separable(layer, y, sums);
    } else {
      add_whole(layer, y, sums);
    }
  }

  template <int kTiles>
  __device__ __forceinline__ void add_whole(const FusedLayer& layer, int y, float (&sums)[kBandRows][kTiles][4]) const {
    const uint2* weights = job_.weights + layer.weights;
    Weights<kTiles> w;
    take(weights, w.taps);
    if (layer.source_count == 0) {
      __syncthreads();
      for (int plane = 0; plane < network_.image_planes; ++plane) add_colors(y, plane, w, sums);
      return;
    }
    int source = 0, blocks = network_.layer[layer.sources[0]].blocks;
    Rows<kBandRows + 2> rows = feature_rows<kBandRows + 2>(network_.layer[layer.sources[0]], y - 1);
    __syncthreads();
    Operands a;
    load_operands(rows, tap_[0], a);
    for (;;) {
      add_column(rows, tap_[1], true, weights, a, w, sums);
      add_column(rows, tap_[2], true, weights, a, w, sums);
      bool more = true;
      if (--blocks > 0) {
#pragma unroll
        for (SharedAddress& row : rows.at) row += network_.pitch() * 32;
      } else if (++source < layer.source_count) {
        blocks = network_.layer[layer.sources[1]].blocks;
        rows = feature_rows<kBandRows + 2>(network_.layer[layer.sources[1]], y - 1);
      } else {
        more = false;
      }
      add_column(rows, tap_[0], more, weights, a, w, sums);
      if (!more) return;
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
    const uint2* weights = job_.weights + layer.weights;
    const float4* filters = reinterpret_cast<const float4*>(job_.biases + layer.depthwise) + lane_ % 4;
    if (layer.source_count == 0) {
      add_filtered([&](int row, int tap, Share& share) { take_colors(y - 1 + row, tap, share); }, filters, weights,
                   sums);
    }
    for (int s = 0; s < layer.source_count; ++s) {
      const FusedLayer& source = network_.layer[s == 0 ? layer.sources[0] : layer.sources[1]];
      Rows<kBandRows + 2> rows = feature_rows<kBandRows + 2>(source, y - 1);
      for (int block = 0; block < source.blocks; ++block) {
        const auto load = [&](int row, int tap, Share& share) {
          uint32_t a[4];
          load_operand(rows.at[row] + (tap == 0 ? tap_[0] : tap == 1 ? tap_[1] : tap_[2]), a);
          share.set(a);
        };
        add_filtered(load, filters, weights, sums);
#pragma unroll
        for (SharedAddress& row : rows.at) row += network_.pitch() * 32;
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
        const uint32_t both = load_word(image_pixel(y, plane, column) + lane_ % 2 * 4);
        v[0] += widen<H>(both & 0xffff), v[1] += widen<H>(both >> 16);
      }
    }
  }

  // Sixteen channels: their depthwise filters, then the products with the 1 x 1 filters. load(row, tap, share): of six
  // rows. filters: (bias and 9 taps by columns, lanes t, 4 channels); weights: (tiles, lanes); both move on.
  template <int kTiles, class Load>
  __device__ __forceinline__ void add_filtered(const Load& load, const float4*& filters, const uint2*& weights,
                                               float (&sums)[kBandRows][kTiles][4]) const {
    uint2 w[kTiles];  // under way meanwhile
    take(weights, w);
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
    const int g = lane_ / 4, t = lane_ % 4;
    const int column = 16 * warp_ + g + t / 2;  // the stored one left of the first pixel's
    Operands a;
#pragma unroll
    for (int row = 0; row < kBandRows + 2; ++row) {
      const SharedAddress from = image_pixel(y - 1 + row, plane, column) + t % 2 * 4;
      // The fourth pixel is not read: 0 times what is no number would be none.
      a.rows[row][0] = load_word(from), a.rows[row][1] = load_word(from + 8 * 8);
      a.rows[row][2] = t < 2 ? load_word(from + 8 * 2) : 0, a.rows[row][3] = t < 2 ? load_word(from + 8 * 10) : 0;
    }
    add_rows(a, w, sums);
  }

  // A column of three taps with the operands `a`. Meanwhile those of the next one are under way, if there are `more`,
  // at `next` in `rows`, and its weights; behind the last layer's weights lie as many that nobody uses.
  template <int kTiles>
  __device__ __forceinline__ void add_column(const Rows<kBandRows + 2>& rows, SharedAddress next, bool more,
                                             const uint2*& weights, Operands& a, Weights<kTiles>& w,
                                             float (&sums)[kBandRows][kTiles][4]) const {
    Operands ahead;
    if (more) load_operands(rows, next, ahead);
    Weights<kTiles> weights_ahead;
    weights += 3 * kTiles * kWarp;
    take(weights, weights_ahead.taps);
    add_rows(a, w, sums);
    a = ahead, w = weights_ahead;
  }

  __device__ __forceinline__ static void load_operands(const Rows<kBandRows + 2>& rows, SharedAddress at, Operands& a) {
#pragma unroll
    for (int row = 0; row < kBandRows + 2; ++row) load_operand(rows.at[row] + at, a.rows[row]);
  }

  // Of one product after the other, of two neighbours in one access: (products / 2, lanes, 2), then a last one's.
  template <int kProducts>
  __device__ __forceinline__ void take(const uint2* weights, uint2 (&w)[kProducts]) const {
#pragma unroll
    for (int i = 0; i + 1 < kProducts; i += 2) {
      const uint4 both = reinterpret_cast<const uint4*>(weights + i * kWarp)[lane_];
      w[i] = {both.x, both.y}, w[i + 1] = {both.z, both.w};
    }
    if (kProducts % 2 != 0) w[kProducts - 1] = weights[(kProducts - 1) * kWarp + lane_];
  }

  // Each of six rows counts for the rows of outputs around it.
  template <int kTiles>
  __device__ __forceinline__ static void add_rows(const Operands& a, const Weights<kTiles>& w,
                                                  float (&sums)[kBandRows][kTiles][4]) {
#pragma unroll
    for (int row = 0; row < kBandRows + 2; ++row) {
#pragma unroll
      for (int tap = 0; tap < 3; ++tap) {
        const int r = row - tap;
        if (r < 0 || r >= kBandRows) continue;
#pragma unroll
        for (int j = 0; j < kTiles; ++j) multiply_add<H>(sums[r][j], a.rows[row], w.taps[tap * kTiles + j]);
      }
    }
  }

  // Rectified; 0 beside the picture, where later layers read zeros.
  template <int kTiles>
  __device__ __forceinline__ void keep(const FusedLayer& layer, int y,
                                       const float (&sums)[kBandRows][kTiles][4]) const {
    const Rows<kBandRows> rows = feature_rows<kBandRows>(layer, y);
#pragma unroll
    for (int r = 0; r < kBandRows; ++r) {
      const bool kept = is_row(y + r);
#pragma unroll
      for (int below = 0; below < 2; ++below) {
        const uint32_t mask = kept ? mask_[below] : 0;
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const float* const v = sums[r][j] + 2 * below;
          // The halves of a pixel are 16 bytes apart, in whichever order.
          const SharedAddress to = (kept_ ^ j % 2 * 16) + rows.at[r] + j / 2 * network_.pitch() * 32 + below * 8 * 32;
          store_word(to, rectified_pair<H>(v[0], v[1]) & mask);
        }
      }
    }
  }

  // Logits to pixels or maps. Four lanes have a pixel's logits, two of each tile; by exchange each gets all maps of two
  // of their eight pixels: lane t the column g + t % 2 * 8 in rows t / 2 * 2 and the next.
  template <int kTiles>
  __device__ __forceinline__ void finish(int y, const float (&sums)[kBandRows][kTiles][4]) const {
    uint32_t pixels[kFinished][3];
    if (!job_.to_maps) read_finished(y, pixels);  // under way while maps are made
    Maps<kTiles> maps;
#pragma unroll
    for (int to = 0; to < 4; ++to) {
#pragma unroll
      for (int i = 0; i < kFinished * kTiles; ++i) {
        const int pixel = i / kTiles, j = i % kTiles;
        const float* const sum = sums[to / 2 * kFinished + pixel][j] + to % 2 * 2;
        maps.of[to][pixel][j] = approximate_tangents(sum[0], sum[1]);
        if (strength_ != 1) maps.of[to][pixel][j] = scaled_halves(maps.of[to][pixel][j], strength_);
      }
    }
    exchange(maps);
    if (!finishes_) return;
#pragma unroll
    for (int pixel = 0; pixel < kFinished; ++pixel) {
      const int row = y + lane_ % 4 / 2 * kFinished + pixel;
      if (row >= bottom_) continue;
      store<kTiles>(row, pixels[pixel], [&](int k) { return maps.get(pixel, k); });
    }
  }

  // Pixels of the picture that the lane finishes.
  __device__ __forceinline__ void read_finished(int y, uint32_t (&pixels)[kFinished][3]) const {
    const int64_t column = from_ + (left_ + finished_) * job_.picture.column;
    with_values(job_.picture.element, [&](auto type) {
#pragma unroll
      for (int pixel = 0; pixel < kFinished; ++pixel) {
        const int row = y + lane_ % 4 / 2 * kFinished + pixel;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
          pixels[pixel][c] = 0;
          if (finishes_ && row < bottom_) {
            pixels[pixel][c] = type.load(job_.picture, column + row * job_.picture.row + c * job_.picture.channel);
          }
        }
      }
    });
  }

  // What a lane has for lane t of its four, in place t, for what that lane had for it.
  template <int kTiles>
  __device__ __forceinline__ void exchange(Maps<kTiles>& maps) const {
#pragma unroll
    for (int with = 1; with < 4; with *= 2) {
      const bool upper = (lane_ & with) != 0;
#pragma unroll
      for (int to = 0; to < 4; ++to) {
        if ((to & with) != 0) continue;
#pragma unroll
        for (int i = 0; i < kFinished * kTiles; ++i) {
          uint32_t& low = maps.of[to][i / kTiles][i % kTiles];
          uint32_t& high = maps.of[to + with][i / kTiles][i % kTiles];
          const uint32_t taken = __shfl_xor_sync(kAll, upper ? low : high, with);
          (upper ? low : high) = taken;
        }
      }
    }
  }

  // map(k): the pixel's map k.
  template <int kTiles, class Map>
  __device__ __forceinline__ void store(int row, const uint32_t (&bits)[3], const Map& map) const {
    const int64_t to = to_ + row * job_.result.row;
    if (job_.to_maps) {
#pragma unroll
      for (int k = 0; k < kTiles * kOutputTile; ++k) {
        if (k < network_.maps) Values<float>::store(job_.result, to + k * job_.result.channel, map(k));
      }
      return;
    }
    with_values(job_.picture.element, [&](auto type) {
      float v[3];
#pragma unroll
      for (int c = 0; c < 3; ++c) v[c] = type.template value<1>(bits[c]);
      curve<kTiles>(map, v);
#pragma unroll
      for (int c = 0; c < 3; ++c) type.store(job_.result, to + c * job_.result.channel, v[c]);
    });
  }

  template <int kTiles, class Map>
  __device__ __forceinline__ void curve(const Map& map, float (&v)[3]) const {
    if (kTiles == 1 && network_.maps == 3) {  // of all steps
      for (int t = 0; t < network_.iterations; ++t) {
#pragma unroll
        for (int c = 0; c < 3; ++c) v[c] = step(v[c], map(c));
      }
      return;
    }
#pragma unroll
    for (int t = 0; t < kTiles * kOutputTile / 3; ++t) {
      if (t >= network_.iterations) break;
#pragma unroll
      for (int c = 0; c < 3; ++c) v[c] = step(v[c], map(3 * t + c));
    }
  }
};

template <class H, int kMost, bool kSeparable>
__global__ void __launch_bounds__(most_warps(kMost) * kWarp, 1)
    network_forward(const __grid_constant__ FusedNetwork network, const __grid_constant__ NetworkJob job) {
  NetworkPass<H, kMost, kSeparable>(network, job).run();
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
    to.row_bytes = to.blocks * fused.pitch() * 32;
    to.reciprocal = to.ring == 0 ? 0 : static_cast<uint32_t>((uint64_t{1} << 32) / to.ring + 1);
    memory += to.ring * to.row_bytes;
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

// How the kernel goes over pictures.
struct Layout {
  FusedNetwork network;  // in the strips of a block
  int together;          // blocks on a processor at a time
  int rows;              // of a block
};

// Times of a band with so many warps in each quarter of a processor, over a third of that with three, measured on an
// H200: warps hide each other's waits.
constexpr double kQuarters[] = {0, 1.7, 2.2, 3};

// Of all divisions that fit the processors' shared memory, the one after which `batch` pictures are done soonest, when
// processors take the blocks in turns and the fullest quarter of a processor decides. Wide blocks compute fewer columns
// twice, and high ones fewer rows: above its own, each needs some more. Of equal ones it is the one with the least
// work. Throws Unfit.
inline Layout laid_out(const Network& network, bool eight_bits, int64_t batch, int height, int width,
                       const GpuLimits& gpu) {
  FusedNetwork fused = fused_network(network, 1, eight_bits);
  const int column_bytes = fused.shared_bytes / fused.pitch(), above = -kBandRows * fused.layer[0].first;
  const int most = most_warps(most_tiles(fused));
  int best_strips = 0, best_together = 0, best_rows = 0;
  std::pair<double, int64_t> least{1e300, 0};  // time and work
  for (int strips = 1; strips <= most; ++strips) {
    fused.strips = strips;
    const int bytes = column_bytes * fused.pitch();
    const int together = std::min(most / strips, gpu.shared_a_processor / (bytes + kReserved));
    if (fused.results() <= 0 || bytes > gpu.shared_a_block || together == 0) continue;
    const int64_t across = batch * ((width + fused.results() - 1) / fused.results());
    for (int down = 1; down <= (height + 31) / 32; ++down) {
      const int rows = round_up((height + down - 1) / down, kBandRows);
      const int64_t blocks = across * ((height + rows - 1) / rows);
      const int64_t at_once = std::min<int64_t>(together, (blocks + gpu.processors - 1) / gpu.processors);
      const int64_t turns = (blocks + at_once * gpu.processors - 1) / (at_once * gpu.processors);
      const int64_t quarter = (at_once * strips + 3) / 4, high = rows + above;
      const std::pair found{static_cast<double>(turns * high) * kQuarters[quarter], blocks * strips * high};
      if (found < least) least = found, best_strips = strips, best_together = together, best_rows = rows;
    }
  }
  if (best_strips == 0) throw Unfit("zdce: the network's rows don't fit into the GPU's shared memory");
  return {fused_network(network, best_strips, eight_bits), best_together, best_rows};
}

// pictures: (batch, height, width). Fills in the job's blocks. H is __half or __nv_bfloat16.
template <class H, class Launch>
void launch_network(const Launch& launch, const Network& network, NetworkJob job, int64_t batch, const GpuLimits& gpu) {
  if (batch == 0 || job.height == 0 || job.width == 0) return;
  const auto [fused, together, rows] =
      laid_out(network, job.picture.element == Element::kUint8, batch, job.height, job.width, gpu);
  job.across = (job.width + fused.results() - 1) / fused.results();
  job.rows = rows;
  job.down = (job.height + job.rows - 1) / job.rows;
  const auto kernel = fused.separable          ? network_forward<H, kMostTiles, true>
                      : most_tiles(fused) <= 3 ? network_forward<H, 3, false>
                                               : network_forward<H, kMostTiles, false>;
  // What is left beside it caches the weights, which all blocks read again for every four rows.
  const int64_t needed = int64_t{together} * (fused.shared_bytes + kReserved);
  const int share = static_cast<int>((100 * needed + gpu.shared_a_processor - 1) / gpu.shared_a_processor);
  launch.with_shared(kernel, batch * job.across * job.down, fused.strips * kWarp, fused.shared_bytes, share, fused,
                     job);
}

}  // namespace zdce::cuda
