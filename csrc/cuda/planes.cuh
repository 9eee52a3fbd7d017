// Tensors as the CUDA kernels see them: (B, C, H, W) with any strides, read and written in packs of 16 bytes where that
// is possible. Arithmetic is in float whatever the type in memory.
//
// Plain C++ besides CUDA's own words, without launches: a host compiler that is told their meaning can run the kernels.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "../curve.h"

namespace zdce::cuda {

enum class Type : int32_t { kFloat, kHalf, kBFloat16 };

// Strides are in elements and 64-bit: 4K x 24 maps x 11 images are more than 2^31 elements. A tensor (B, C, P) is one
// row.
struct Planes {
  void* data;
  Type type;
  int64_t batch, channel, row, pixel;
};

constexpr int kWarp = 32;

// Elements in 16 bytes: 4 of float, 8 of the half types.
template <class S>
constexpr int kPack = 16 / sizeof(S);

constexpr unsigned kAll = 0xffffffffu;

// Bits of an element and the float that they mean. Both half types round to nearest, ties to even.
template <class S>
__device__ __forceinline__ float widen(uint32_t bits) {
  const unsigned short half = static_cast<unsigned short>(bits);
  if constexpr (std::is_same_v<S, float>) {
    return __uint_as_float(bits);
  } else if constexpr (std::is_same_v<S, __half>) {
    return __half2float(__ushort_as_half(half));
  } else {
    return __bfloat162float(__ushort_as_bfloat16(half));
  }
}

template <class S>
__device__ __forceinline__ uint32_t narrow(float x) {
  if constexpr (std::is_same_v<S, float>) {
    return __float_as_uint(x);
  } else if constexpr (std::is_same_v<S, __half>) {
    return __half_as_ushort(__float2half_rn(x));
  } else {
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
  }
}

// N neighbouring elements, moved in accesses of up to 16 bytes; N > 1 asks for unit stride and that alignment. They
// stay in 32-bit words as they lie in memory: half-type elements of their own would take a register each, and a struct
// of elements is stored one by one where the compiler has taken it apart.
template <class S, int N>
class Pack {
 public:
  __device__ __forceinline__ void load(const S* from) {
    if constexpr (kWords % 4 == 0) {
#pragma unroll
      for (int j = 0; j < kWords; j += 4) {
        const uint4 v = reinterpret_cast<const uint4*>(from)[j / 4];
        words_[j] = v.x, words_[j + 1] = v.y, words_[j + 2] = v.z, words_[j + 3] = v.w;
      }
    } else if constexpr (kWords == 2) {
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      words_[0] = v.x, words_[1] = v.y;
    } else {
      words_[0] = *reinterpret_cast<const uint32_t*>(from);
    }
  }

  // By intrinsics: plain assignments the compiler takes apart into stores of words.
  __device__ __forceinline__ void store(S* to) const {
    if constexpr (kWords % 4 == 0) {
#pragma unroll
      for (int j = 0; j < kWords; j += 4) {
        __stcg(reinterpret_cast<uint4*>(to) + j / 4, {words_[j], words_[j + 1], words_[j + 2], words_[j + 3]});
      }
    } else if constexpr (kWords == 2) {
      __stcg(reinterpret_cast<uint2*>(to), {words_[0], words_[1]});
    } else {
      __stcg(reinterpret_cast<uint32_t*>(to), words_[0]);
    }
  }

  __device__ __forceinline__ float get(int i) const { return widen<S>(words_[i / kPerWord] >> (i % kPerWord * 16)); }

  __device__ __forceinline__ void set(int i, float x) {
    const uint32_t others = kPerWord == 1 ? 0 : words_[i / 2] & (i % 2 == 0 ? 0xffff0000u : 0xffffu);
    words_[i / kPerWord] = others | narrow<S>(x) << (i % kPerWord * 16);
  }

  // kLanes neighbouring lanes see their packs as the rows of a matrix of kLanes x kLanes parts and transpose it: lane j
  // gives its part i to lane i and gets that lane's part j. All lanes of the warp must take part.
  template <int kLanes>
  __device__ __forceinline__ void transpose(int lane) {
    constexpr int kPart = kWords / kLanes;
    static_assert(kPart * kLanes == kWords);
#pragma unroll
    for (int with = 1; with < kLanes; with *= 2) {
      const bool upper = (lane & with) != 0;
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        if ((i / kPart & with) == 0) {
          uint32_t &low = words_[i], &high = words_[i + with * kPart];
          const uint32_t taken = __shfl_xor_sync(kAll, upper ? low : high, with);
          (upper ? low : high) = taken;
        }
      }
    }
  }

 private:
  static constexpr int kPerWord = 4 / sizeof(S), kWords = N / kPerWord;
  static_assert(kWords == 1 || kWords == 2 || kWords % 4 == 0);
  uint32_t words_[kWords] = {};
};

template <class S>
class Pack<S, 1> {
 public:
  __device__ __forceinline__ void load(const S* from) { bits_ = *reinterpret_cast<const Bits*>(from); }
  __device__ __forceinline__ void store(S* to) const { *reinterpret_cast<Bits*>(to) = bits_; }
  __device__ __forceinline__ float get(int) const { return widen<S>(bits_); }
  __device__ __forceinline__ void set(int, float x) { bits_ = static_cast<Bits>(narrow<S>(x)); }
  template <int kLanes>
  __device__ __forceinline__ void transpose(int) {
    static_assert(kLanes == 1);
  }

 private:
  using Bits = std::conditional_t<sizeof(S) == 4, uint32_t, uint16_t>;
  Bits bits_ = 0;
};

// The first element of a pack, zeros where `inside` doesn't hold.
template <class S, int N>
__device__ __forceinline__ Pack<S, N> load(const Planes& t, int64_t at, bool inside) {
  Pack<S, N> pack;
  if (inside) pack.load(static_cast<const S*>(t.data) + at);
  return pack;
}

template <class S, int N>
__device__ __forceinline__ void store(const Planes& t, int64_t at, bool inside, const Pack<S, N>& pack) {
  if (inside) pack.store(static_cast<S*>(t.data) + at);
}

template <class S, int N>
__device__ __forceinline__ void load_as(const Planes& t, int64_t at, bool inside, float (&x)[N]) {
  const Pack<S, N> pack = load<S, N>(t, at, inside);
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = pack.get(i);
}

template <class S, int N>
__device__ __forceinline__ void store_as(const Planes& t, int64_t at, bool inside, const float (&x)[N]) {
  Pack<S, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.set(i, x[i]);
  store<S, N>(t, at, inside, pack);
}

// Maps that a pixel has where a thread takes all of them, for the three colours: those of every published network.
constexpr int kPixelMaps = 8, kPixelChannels = 3 * kPixelMaps;

// The maps of a pixel whose channels lie side by side: 48 or 96 bytes, in accesses of 16.
template <class M>
class Pixel {
 public:
  __device__ __forceinline__ void load(const Planes& t, int64_t at, bool inside) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) packs_[i] = cuda::load<M, kPack<M>>(t, at + i * kPack<M>, inside);
  }
  __device__ __forceinline__ void store(const Planes& t, int64_t at, bool inside) const {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) cuda::store<M, kPack<M>>(t, at + i * kPack<M>, inside, packs_[i]);
  }
  __device__ __forceinline__ float get(int k) const { return packs_[k / kPack<M>].get(k % kPack<M>); }
  __device__ __forceinline__ void set(int k, float x) { packs_[k / kPack<M>].set(k % kPack<M>, x); }

 private:
  static constexpr int kPacks = kPixelChannels / kPack<M>;
  static_assert(kPacks * kPack<M> == kPixelChannels);
  Pack<M, kPack<M>> packs_[kPacks];
};

// The same value, of which the compiler knows nothing more. Inside a loop, addresses made from it are calculated in
// every turn; else they would be kept from turn to turn, two 64-bit ones a map, and take the registers that the maps
// need.
__device__ __forceinline__ int64_t opaque(int64_t value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+l"(value));
#endif
  return value;
}

// Of the tensors with 3 channels the type is looked up at run time: they are 3 of 27 elements a pixel, and every type
// of image with every type of maps would be nine kernels in place of three.
template <int N>
__device__ __forceinline__ void load(const Planes& t, int64_t at, bool inside, float (&x)[N]) {
  switch (t.type) {
    case Type::kFloat:
      return load_as<float, N>(t, at, inside, x);
    case Type::kHalf:
      return load_as<__half, N>(t, at, inside, x);
    default:
      return load_as<__nv_bfloat16, N>(t, at, inside, x);
  }
}

template <int N>
__device__ __forceinline__ void store(const Planes& t, int64_t at, bool inside, const float (&x)[N]) {
  switch (t.type) {
    case Type::kFloat:
      return store_as<float, N>(t, at, inside, x);
    case Type::kHalf:
      return store_as<__half, N>(t, at, inside, x);
    default:
      return store_as<__nv_bfloat16, N>(t, at, inside, x);
  }
}

// The T steps of one pixel and colour, done again and then backwards: x is the pixel, g the gradient of its last value
// and then that of x. map(t) is the map of step t, give(t, gradient) takes that map's gradient, the last step's first.
template <int kSteps, class Map, class Give>
__device__ __forceinline__ void steps_backward(float x, float& g, int iterations, const Map& map, const Give& give) {
  float xs[kSteps];
#pragma unroll
  for (int t = 0; t < kSteps; ++t) {
    xs[t] = x;
    if (t < iterations) x = step(x, map(t));
  }
#pragma unroll
  for (int t = kSteps - 1; t >= 0; --t) {
    if (t < iterations) {
      const float grad_map = g * step_da(xs[t]);
      g *= step_dx(xs[t], map(t));
      give(t, grad_map);
    }
  }
}

// Host side: whether rows of `width` pixels can be moved in packs of n.
inline bool packs(const Planes& t, int64_t width, int n) {
  const int64_t size = t.type == Type::kFloat ? 4 : 2;
  const int64_t bytes = size * n < 16 ? size * n : 16;
  return t.pixel == 1 && width % n == 0 && reinterpret_cast<uintptr_t>(t.data) % bytes == 0 &&
         (t.batch | t.channel | t.row) * size % bytes == 0;
}

// Whether a thread can take a pixel's channels together: own maps of T = 8, side by side, in packs of 16 bytes.
inline bool takes_pixels(const Planes& maps, int iterations, bool shared) {
  const int64_t size = maps.type == Type::kFloat ? 4 : 2;
  return iterations == kPixelMaps && !shared && maps.channel == 1 && reinterpret_cast<uintptr_t>(maps.data) % 16 == 0 &&
         (maps.batch | maps.row | maps.pixel) * size % 16 == 0;
}

}  // namespace zdce::cuda
