// Tensors as the CPU kernels see them: (B, C, H, W) with any strides, read and written in blocks, runs of pixels in a
// row.
//
// A kernel works on planar blocks of float or double. Where a tensor has unit pixel stride and that very type, a block
// is the tensor's own memory; otherwise (channels_last, half types, mixed types) it is a copy that stays in L1.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "halves.h"
#include "isa.h"
#include "lanes.h"

namespace zdce {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Pixels a block. 27 planes of 256 floats take 27 KB of L1 (T = 8) and each plane's run is long enough for the
// prefetcher.
constexpr int kBlock = 256;

struct Planes {
  char* data;
  ScalarType dtype;
  int64_t batch, channels, height, width;
  int64_t batch_stride, channel_stride, row_stride, pixel_stride;  // in bytes
};

inline int64_t bytes_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Double:
      return 8;
    case ScalarType::Float:
      return 4;
    case ScalarType::Half:
    case ScalarType::BFloat16:
      return 2;
    default:
      throw std::runtime_error("zdce: tensors must be float64, float32, bfloat16 or float16");
  }
}

// tensor: (B, C, H, W), or (B, C, P) as one row of P pixels; any strides. Throws where it is not on the CPU, not of
// that many dimensions or not of a floating type.
inline Planes planes(const Tensor& tensor, const char* name, int64_t dim = 4) {
  if (!tensor.is_cpu() || tensor.dim() != dim) {
    throw std::runtime_error(std::string("zdce: ") + name + " must be a CPU tensor of shape " +
                             (dim == 4 ? "(B, C, H, W)" : "(B, C, P)"));
  }
  const int64_t bytes = bytes_of(tensor.scalar_type());
  const bool rows = dim == 4;
  return {static_cast<char*>(tensor.data_ptr()),
          tensor.scalar_type(),
          tensor.size(0),
          tensor.size(1),
          rows ? tensor.size(2) : 1,
          tensor.size(dim - 1),
          tensor.stride(0) * bytes,
          tensor.stride(1) * bytes,
          rows ? tensor.stride(2) * bytes : 0,
          tensor.stride(dim - 1) * bytes};
}

inline void check_shape(const Planes& t, const char* name, int64_t batch, int64_t channels, int64_t height,
                        int64_t width) {
  if (t.batch != batch || t.channels != channels || t.height != height || t.width != width) {
    const auto shape = [](int64_t b, int64_t c, int64_t h, int64_t w) {
      return "(" + std::to_string(b) + ", " + std::to_string(c) + ", " + std::to_string(h) + ", " + std::to_string(w) +
             ")";
    };
    throw std::runtime_error(std::string("zdce: ") + name + " must be " + shape(batch, channels, height, width) +
                             ", got " + shape(t.batch, t.channels, t.height, t.width));
  }
}

// image: (B, 3, H, W); maps: (B, 3 T, H, W) or, shared by all steps, (B, 3, H, W).
inline void check_curve(const Planes& image, const Planes& maps, const char* maps_name, int64_t iterations) {
  if (iterations < 1 || iterations > kMaxIterations) {
    throw std::runtime_error("zdce: iterations must be 1 to 16, got " + std::to_string(iterations));
  }
  check_shape(image, "image", image.batch, 3, image.height, image.width);
  check_shape(maps, maps_name, image.batch, maps.channels == 3 ? 3 : 3 * iterations, image.height, image.width);
}

inline bool in_double(const Planes& a, const Planes& b) {
  return a.dtype == ScalarType::Double || b.dtype == ScalarType::Double;
}

template <class C>
constexpr ScalarType kDtype = sizeof(C) == 8 ? ScalarType::Double : ScalarType::Float;

template <class S, class C>
struct Gather {
  ZDCE_INLINE static void run(const char* from, int64_t stride, int n, C* to) {
    if (stride == static_cast<int64_t>(sizeof(S))) {
      for (int i = 0; i < n; ++i) to[i] = widen<C>(reinterpret_cast<const S*>(from)[i]);
    } else {
      for (int i = 0; i < n; ++i) to[i] = widen<C>(*reinterpret_cast<const S*>(from + i * stride));
    }
  }
};

template <class S, class C>
struct Scatter {
  ZDCE_INLINE static void run(const C* from, int n, char* to, int64_t stride) {
    if (stride == static_cast<int64_t>(sizeof(S))) {
      for (int i = 0; i < n; ++i) reinterpret_cast<S*>(to)[i] = Narrow<S>::from(from[i]);
    } else {
      for (int i = 0; i < n; ++i) *reinterpret_cast<S*>(to + i * stride) = Narrow<S>::from(from[i]);
    }
  }
};

// Between channels_last memory and planar blocks: 4 x 4 transpositions in registers. Channel k of pixel i lies at
// k * sizeof(S) + i * stride in the tensor, at k * pitch + i in the block.
template <class C>
struct Four {
  typedef C type __attribute__((vector_size(4 * sizeof(C))));
  typedef std::conditional_t<sizeof(C) == 8, int64_t, int32_t> index __attribute__((vector_size(4 * sizeof(C))));
};

template <class C>
ZDCE_INLINE void transpose(typename Four<C>::type (&v)[4]) {
  using I = typename Four<C>::index;
  const auto a = __builtin_shuffle(v[0], v[1], I{0, 4, 1, 5}), b = __builtin_shuffle(v[0], v[1], I{2, 6, 3, 7});
  const auto c = __builtin_shuffle(v[2], v[3], I{0, 4, 1, 5}), d = __builtin_shuffle(v[2], v[3], I{2, 6, 3, 7});
  v[0] = __builtin_shuffle(a, c, I{0, 1, 4, 5});
  v[1] = __builtin_shuffle(a, c, I{2, 3, 6, 7});
  v[2] = __builtin_shuffle(b, d, I{0, 1, 4, 5});
  v[3] = __builtin_shuffle(b, d, I{2, 3, 6, 7});
}

template <class S, class C>
struct Deinterleave {
  ZDCE_INLINE static void run(const char* from, int64_t stride, int channels, int n, C* to, int pitch) {
    for (int k = 0; k < channels; k += 4) {
      const int wanted = std::min(4, channels - k);
      // Three channels are read as four: the fourth is the next pixel's, so the last pixel must not be.
      const int fours = wanted == 4 ? n & ~3 : wanted == 3 ? (n - 1) & ~3 : 0;
      for (int i = 0; i < fours; i += 4) {
        typename Four<C>::type v[4];
        for (int j = 0; j < 4; ++j) {
          const S* pixel = reinterpret_cast<const S*>(from + (i + j) * stride) + k;
          if constexpr (std::is_same_v<S, C>) {
            std::memcpy(&v[j], pixel, sizeof(v[j]));
          } else {
            for (int l = 0; l < 4; ++l) v[j][l] = widen<C>(pixel[l]);
          }
        }
        transpose<C>(v);
        for (int j = 0; j < wanted; ++j) std::memcpy(to + (k + j) * pitch + i, &v[j], sizeof(v[j]));
      }
      for (int i = fours; i < n; ++i) {
        for (int j = 0; j < wanted; ++j) {
          to[(k + j) * pitch + i] = widen<C>(reinterpret_cast<const S*>(from + i * stride)[k + j]);
        }
      }
    }
  }
};

template <class S, class C>
struct Interleave {
  ZDCE_INLINE static void run(const C* from, int pitch, int channels, int n, char* to, int64_t stride) {
    for (int k = 0; k < channels; k += 4) {
      const int wanted = std::min(4, channels - k);
      const int fours = wanted == 4 ? n & ~3 : 0;
      for (int i = 0; i < fours; i += 4) {
        typename Four<C>::type v[4];
        for (int j = 0; j < 4; ++j) std::memcpy(&v[j], from + (k + j) * pitch + i, sizeof(v[j]));
        transpose<C>(v);
        for (int j = 0; j < 4; ++j) {
          S* pixel = reinterpret_cast<S*>(to + (i + j) * stride) + k;
          if constexpr (std::is_same_v<S, C>) {
            std::memcpy(pixel, &v[j], sizeof(v[j]));
          } else {
            for (int l = 0; l < 4; ++l) pixel[l] = Narrow<S>::from(v[j][l]);
          }
        }
      }
      for (int i = fours; i < n; ++i) {
        for (int j = 0; j < wanted; ++j) {
          reinterpret_cast<S*>(to + i * stride)[k + j] = Narrow<S>::from(from[(k + j) * pitch + i]);
        }
      }
    }
  }
};

inline char* address(const Planes& t, int64_t b, int64_t c, int64_t y, int64_t x) {
  return t.data + b * t.batch_stride + c * t.channel_stride + y * t.row_stride + x * t.pixel_stride;
}

template <class C>
bool is_block(const Planes& t) {
  return t.dtype == kDtype<C> && t.pixel_stride == static_cast<int64_t>(sizeof(C));
}

// An output of so many bytes is written past the caches. On two cores of 2 MB the next pass over 50 MB gained by it,
// too, that over 25 MB, which a large shared cache still held, lost.
constexpr int64_t kPastCaches = 32 << 20;

// Whether blocks of this output are written past the caches: it is large, and each of its lines lies in one block.
template <class C>
bool past_caches(const Planes& t) {
  const auto whole_lines = [](int64_t bytes) { return bytes % 64 == 0; };
  return is_block<C>(t) && t.batch * t.channels * t.height * t.width * static_cast<int64_t>(sizeof(C)) >= kPastCaches &&
         whole_lines(reinterpret_cast<intptr_t>(t.data)) && whole_lines(t.batch_stride) &&
         whole_lines(t.channel_stride) && whole_lines(t.row_stride);
}

// Values from a block to that of the row below, which is read next; 0 where blocks are copies.
template <class C>
int64_t next_row(const Planes& t) {
  return is_block<C>(t) ? t.row_stride / static_cast<int64_t>(sizeof(C)) : 0;
}

inline bool is_interleaved(const Planes& t) {
  const int64_t bytes = bytes_of(t.dtype);
  return t.channel_stride == bytes && t.pixel_stride >= t.channels * bytes && t.channels > 2;
}

// Calls f with a value of the tensor's element type.
template <class F>
void with_element(ScalarType dtype, const F& f) {
  switch (dtype) {
    case ScalarType::Double:
      return f(double{});
    case ScalarType::Float:
      return f(float{});
    case ScalarType::Half:
      return f(Half{});
    default:
      return f(BFloat16{});
  }
}

// A piece of some channels of a row: channels first to first + channels of n pixels from (y, x) of image b.
struct Piece {
  int64_t b, first, channels, y, x;
  int n;
};

// blocks[k] becomes the block of the piece's channel k: the tensor's own memory where it is one, else scratch
// (k * pitch), filled.
template <class C>
void fetch(Isa isa, const Planes& t, const Piece& p, C* scratch, int pitch, const C** blocks) {
  if (is_block<C>(t)) {
    for (int64_t k = 0; k < p.channels; ++k) {
      blocks[k] = reinterpret_cast<const C*>(address(t, p.b, p.first + k, p.y, p.x));
    }
    return;
  }
  for (int64_t k = 0; k < p.channels; ++k) blocks[k] = scratch + k * pitch;
  with_element(t.dtype, [&](auto element) {
    using S = decltype(element);
    const char* from = address(t, p.b, p.first, p.y, p.x);
    if (is_interleaved(t)) {
      dispatch<Deinterleave<S, C>>(isa, from, t.pixel_stride, static_cast<int>(p.channels), p.n, scratch, pitch);
    } else {
      for (int64_t k = 0; k < p.channels; ++k) {
        dispatch<Gather<S, C>>(isa, from + k * t.channel_stride, t.pixel_stride, p.n, scratch + k * pitch);
      }
    }
  });
}

// Where a kernel writes a piece: the tensor's own memory where it is a block, else scratch, for put to copy.
template <class C>
void target(const Planes& t, const Piece& p, C* scratch, int pitch, C** blocks) {
  for (int64_t k = 0; k < p.channels; ++k) {
    blocks[k] = is_block<C>(t) ? reinterpret_cast<C*>(address(t, p.b, p.first + k, p.y, p.x)) : scratch + k * pitch;
  }
}

template <class C>
void put(Isa isa, const Planes& t, const Piece& p, const C* scratch, int pitch) {
  if (is_block<C>(t)) return;
  with_element(t.dtype, [&](auto element) {
    using S = decltype(element);
    char* to = address(t, p.b, p.first, p.y, p.x);
    if (is_interleaved(t)) {
      dispatch<Interleave<S, C>>(isa, scratch, pitch, static_cast<int>(p.channels), p.n, to, t.pixel_stride);
    } else {
      for (int64_t k = 0; k < p.channels; ++k) {
        dispatch<Scatter<S, C>>(isa, scratch + k * pitch, p.n, to + k * t.channel_stride, t.pixel_stride);
      }
    }
  });
}

}  // namespace zdce
