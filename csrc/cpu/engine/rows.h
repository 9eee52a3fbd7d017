// Rows of tensors as rows of pixels in blocks of 16 channels, with zeros beyond the picture and the last channel.
#pragma once

#include "../planes.h"
#include "bands.h"

namespace zdce::engine {

// A region is at most this wide. Its rows have a column before and one behind it, and room for a whole transposition.
constexpr int kRegionColumns = 256;
constexpr int kPitch = kRegionColumns + 20;

// Columns x - 1 to x + n of row y of image b, n a multiple of 4.
struct RowPlace {
  int64_t b, y, x;
  int n;
};

template <int kBytes>
struct ReadRow {
  using V = typename Part<kBytes>::type;
  static constexpr int lanes = Part<kBytes>::lanes;

  // to: (blocks, kPitch, 16). With `output`, which has the shape of `from`, a value counts only where the output is
  // above 0: the gradient before a ReLU.
  ZDCE_INLINE static void run(const Planes* from, const Planes* output, const RowPlace* at, float* to) {
    const bool inside = at->y >= 0 && at->y < from->height;
    const int first = !inside ? at->n + 2 : at->x == 0;
    const int last = !inside ? first : static_cast<int>(std::min<int64_t>(at->n + 2, from->width - at->x + 1));
    for (int64_t c = 0; c < from->channels; c += kBlock, to += kPitch * kBlock) {
      const int channels = static_cast<int>(std::min<int64_t>(kBlock, from->channels - c));
      if (inside) read(*from, output, at->b, c, at->y, at->x - 1 + first, channels, last - first, to + first * kBlock);
      std::fill_n(to, first * kBlock, 0.0f);
      std::fill(to + last * kBlock, to + (at->n + 2) * kBlock, 0.0f);
    }
  }

  // n pixels of one block.
  ZDCE_INLINE static void read(const Planes& from, const Planes* output, int64_t b, int64_t c, int64_t y, int64_t x,
                               int channels, int n, float* to) {
    const float* const source = reinterpret_cast<const float*>(address(from, b, c, y, x));
    if (output == nullptr) return copy(source, from.pixel_stride / 4, from.channel_stride / 4, channels, n, to);
    const float* kept = reinterpret_cast<const float*>(address(*output, b, c, y, x));
    int64_t stride = output->pixel_stride / 4;
    alignas(64) float values[kPitch * kBlock];
    if (output->channel_stride != 4 || channels < kBlock) {
      copy(kept, stride, output->channel_stride / 4, channels, n, values);
      kept = values, stride = kBlock;
    }
    if (from.channel_stride != 4 || channels < kBlock) {
      copy(source, from.pixel_stride / 4, from.channel_stride / 4, channels, n, to);
      mask(to, kBlock, kept, stride, n, to);
    } else {
      mask(source, from.pixel_stride / 4, kept, stride, n, to);
    }
  }

  ZDCE_INLINE static void mask(const float* from, int64_t stride, const float* kept, int64_t kept_stride, int n,
                               float* to) {
    for (int i = 0; i < n; ++i) {
      for (int lane = 0; lane < kBlock; lane += lanes) {
        const V v = load_part<kBytes>(from + i * stride + lane), zero{};
        store_part<kBytes>(to + i * kBlock + lane, load_part<kBytes>(kept + i * kept_stride + lane) <= zero ? zero : v);
      }
    }
  }

  // from: n pixels, strides in floats; to: (n, 16), up to 15 pixels more are overwritten.
  ZDCE_INLINE static void copy(const float* from, int64_t pixel, int64_t channel, int channels, int n, float* to) {
    if (channel == 1 && channels == kBlock) {
      for (int i = 0; i < n; ++i) {
        for (int lane = 0; lane < kBlock; lane += lanes) {
          store_part<kBytes>(to + i * kBlock + lane, load_part<kBytes>(from + i * pixel + lane));
        }
      }
    } else if (pixel == 1) {
      alignas(64) float planes[kBlock * kBlock] = {};
      for (int i = 0; i < n; i += kBlock) {
        for (int c = 0; c < channels; ++c) {
          std::memcpy(planes + c * kBlock, from + c * channel + i, 4 * std::min(kBlock, n - i));
        }
        transpose<kBytes>(planes, kBlock, to + i * kBlock);
      }
    } else {
      for (int i = 0; i < n; ++i) {
        for (int c = 0; c < kBlock; ++c) to[i * kBlock + c] = c < channels ? from[i * pixel + c * channel] : 0.0f;
      }
    }
  }
};

}  // namespace zdce::engine
