// Tensors as the CPU kernels see them: (B, C, P) with any strides, P = H * W pixels, read and written in blocks of
// planes.
//
// A kernel works on planar blocks of float or double. Where a tensor has unit pixel stride and that very type, a block
// is the tensor's own memory; otherwise (channels_last, half types, mixed types) it is a copy that stays in L1.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

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
  int64_t batch, channels, pixels;
  int64_t batch_stride, channel_stride, pixel_stride;  // in bytes
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

// tensor: (B, C, P), any strides. Throws where it is not on the CPU, not 3-dimensional or not of a floating type.
inline Planes planes(const Tensor& tensor, const char* name) {
  if (!tensor.is_cpu() || tensor.dim() != 3) {
    throw std::runtime_error(std::string("zdce: ") + name + " must be a CPU tensor of shape (B, C, P)");
  }
  const int64_t bytes = bytes_of(tensor.scalar_type());
  return {static_cast<char*>(tensor.data_ptr()),
          tensor.scalar_type(),
          tensor.size(0),
          tensor.size(1),
          tensor.size(2),
          tensor.stride(0) * bytes,
          tensor.stride(1) * bytes,
          tensor.stride(2) * bytes};
}

inline void check_shape(const Planes& t, const char* name, int64_t batch, int64_t channels, int64_t pixels) {
  if (t.batch != batch || t.channels != channels || t.pixels != pixels) {
    throw std::runtime_error(std::string("zdce: ") + name + " must be (" + std::to_string(batch) + ", " +
                             std::to_string(channels) + ", " + std::to_string(pixels) + "), got (" +
                             std::to_string(t.batch) + ", " + std::to_string(t.channels) + ", " +
                             std::to_string(t.pixels) + ")");
  }
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

// Channel c of pixels p to p + n of image b.
inline char* address(const Planes& t, int64_t b, int64_t c, int64_t p) {
  return t.data + b * t.batch_stride + c * t.channel_stride + p * t.pixel_stride;
}

template <class C>
bool is_block(const Planes& t) {
  return t.dtype == kDtype<C> && t.pixel_stride == static_cast<int64_t>(sizeof(C));
}

// n pixels of a plane as a block: the tensor's own memory where it is one, else scratch, filled.
template <class C>
const C* fetch(Isa isa, const Planes& t, int64_t b, int64_t c, int64_t p, int n, C* scratch) {
  const char* from = address(t, b, c, p);
  if (is_block<C>(t)) return reinterpret_cast<const C*>(from);
  switch (t.dtype) {
    case ScalarType::Double:
      dispatch<Gather<double, C>>(isa, from, t.pixel_stride, n, scratch);
      break;
    case ScalarType::Float:
      dispatch<Gather<float, C>>(isa, from, t.pixel_stride, n, scratch);
      break;
    case ScalarType::Half:
      dispatch<Gather<Half, C>>(isa, from, t.pixel_stride, n, scratch);
      break;
    default:
      dispatch<Gather<BFloat16, C>>(isa, from, t.pixel_stride, n, scratch);
  }
  return scratch;
}

// Where a kernel writes a plane's block: the tensor's own memory where it is one, else scratch, for put to copy.
template <class C>
C* target(const Planes& t, int64_t b, int64_t c, int64_t p, C* scratch) {
  return is_block<C>(t) ? reinterpret_cast<C*>(address(t, b, c, p)) : scratch;
}

template <class C>
void put(Isa isa, const Planes& t, int64_t b, int64_t c, int64_t p, int n, const C* block) {
  if (is_block<C>(t)) return;
  char* to = address(t, b, c, p);
  switch (t.dtype) {
    case ScalarType::Double:
      return dispatch<Scatter<double, C>>(isa, block, n, to, t.pixel_stride);
    case ScalarType::Float:
      return dispatch<Scatter<float, C>>(isa, block, n, to, t.pixel_stride);
    case ScalarType::Half:
      return dispatch<Scatter<Half, C>>(isa, block, n, to, t.pixel_stride);
    default:
      return dispatch<Scatter<BFloat16, C>>(isa, block, n, to, t.pixel_stride);
  }
}

}  // namespace zdce
