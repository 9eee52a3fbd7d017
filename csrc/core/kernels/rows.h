// Rows of tensors, float32 or bfloat16, as float32 rows of pixels in blocks of 16 channels, with zeros beyond the
// picture and the last channel.
#pragma once

#include "bands.h"
#include "runs.h"

namespace zdce::ZDCE_TARGET {

// Columns x - 1 to x + n of row y of image b, n a multiple of 4.
struct RowPlace {
  int64_t b, y, x;
  int n;
};

// Where rows y - 1 to y + 4 of a block of channels, or of a tensor's pixels, lie.
template <class T>
struct SixRows {
  const T* at[6];
};

struct ReadRow {
  // to: (blocks, kRegionPitch, 16). With `output`, which has the shape and type of `from`, a value counts only where
  // the output is above 0: the gradient before a ReLU.
  ZDCE_INLINE static void run(const Planes* from, const Planes* output, const RowPlace* at, float* to) {
    if (from->element == Element::kFloat) {
      read_blocks<float>(from, output, at, to);
    } else {
      read_blocks<BFloat16>(from, output, at, to);
    }
  }

  template <class F>
  ZDCE_INLINE static void read_blocks(const Planes* from, const Planes* output, const RowPlace* at, float* to) {
    const bool inside = at->y >= 0 && at->y < from->height;
    const int first = !inside ? at->n + 2 : at->x == 0;
    const int last = !inside ? first : static_cast<int>(std::min<int64_t>(at->n + 2, from->width - at->x + 1));
    for (int64_t c = 0; c < from->channels; c += kBlock, to += kRegionPitch * kBlock) {
      const int channels = static_cast<int>(std::min<int64_t>(kBlock, from->channels - c));
      if (inside)
        read<F>(*from, output, at->b, c, at->y, at->x - 1 + first, channels, last - first, to + first * kBlock);
      std::fill_n(to, first * kBlock, 0.0f);
      std::fill(to + last * kBlock, to + (at->n + 2) * kBlock, 0.0f);
    }
  }

  // n pixels of one block.
  template <class F>
  ZDCE_INLINE static void read(const Planes& from, const Planes* output, int64_t b, int64_t c, int64_t y, int64_t x,
                               int channels, int n, float* to) {
    constexpr int64_t bytes = sizeof(F);
    const F* const source = reinterpret_cast<const F*>(address(from, b, c, y, x));
    const int64_t pixel = from.pixel_stride / bytes, channel = from.channel_stride / bytes;
    if (output == nullptr) return copy(source, pixel, channel, channels, n, to);
    const F* const kept = reinterpret_cast<const F*>(address(*output, b, c, y, x));
    const int64_t kept_pixel = output->pixel_stride / bytes, kept_channel = output->channel_stride / bytes;
    if (channels == kBlock && channel == 1 && kept_channel == 1) return mask(source, pixel, kept, kept_pixel, n, to);
    alignas(64) float values[kRegionPitch * kBlock];
    copy(kept, kept_pixel, kept_channel, channels, n, values);
    copy(source, pixel, channel, channels, n, to);
    mask(to, kBlock, values, kBlock, n, to);
  }

  template <class F, class Kept>
  ZDCE_INLINE static void mask(const F* from, int64_t stride, const Kept* kept, int64_t kept_stride, int n, float* to) {
    for (int64_t i = 0; i < n; ++i) {
      for (int lane = 0; lane < kBlock; lane += kRegisterLanes) {
        const Register v = load_feature(from + i * stride + lane), zero{};
        const Register output = load_feature(kept + i * kept_stride + lane);
        store_register(to + i * kBlock + lane, output <= zero ? zero : v);
      }
    }
  }

  // from: n pixels, strides in elements; to: (n, 16), up to 15 pixels more are overwritten.
  template <class F>
  ZDCE_INLINE static void copy(const F* from, int64_t pixel, int64_t channel, int channels, int n, float* to) {
    if (channel == 1 && channels == kBlock) {
      for (int64_t i = 0; i < n; ++i) {
        for (int lane = 0; lane < kBlock; lane += kRegisterLanes) {
          store_register(to + i * kBlock + lane, load_feature(from + i * pixel + lane));
        }
      }
    } else if (pixel == 1) {
      alignas(64) float planes[kBlock * kBlock] = {};
      for (int i = 0; i < n; i += kBlock) {
        for (int c = 0; c < channels; ++c) {
          const F* const plane = from + c * channel + i;
          if constexpr (sizeof(F) == sizeof(float)) {
            std::memcpy(planes + c * kBlock, plane, 4 * std::min(kBlock, n - i));
          } else {
            for (int p = 0; p < std::min(kBlock, n - i); ++p) planes[c * kBlock + p] = widen<float>(plane[p]);
          }
        }
        transpose(planes, to + i * kBlock);
      }
    } else {
      for (int i = 0; i < n; ++i) {
        for (int c = 0; c < kBlock; ++c) {
          to[i * kBlock + c] = c < channels ? widen<float>(from[i * pixel + c * channel]) : 0.0f;
        }
      }
    }
  }
};

}  // namespace zdce::ZDCE_TARGET
