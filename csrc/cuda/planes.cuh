// Tensors as the CUDA kernels see them: (B, C, H, W) with any strides, read and written in packs of 16 bytes where that
// is possible. Arithmetic is in float whatever the type in memory.
//
// Plain C++ besides CUDA's own words, without launches: a host compiler that is told their meaning can run the kernels.
#pragma once

#include <cstdint>

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

// Elements a thread takes at once where it keeps kMaps maps of each in registers: 16 bytes up to T = 8, and kMost
// beyond, for a thread has 255 registers and what doesn't fit goes to memory.
template <class S, int kMaps, int kMost>
constexpr int kPackOf = kMaps <= 8 ? kPack<S> : kMost;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// Both half types round to nearest, ties to even.
template <class S>
__device__ __forceinline__ S narrow(float x);
template <>
__device__ __forceinline__ float narrow(float x) {
  return x;
}
template <>
__device__ __forceinline__ __half narrow(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 narrow(float x) {
  return __float2bfloat16_rn(x);
}

// N neighbouring elements, moved in accesses of up to 16 bytes. N > 1 asks for unit stride and that alignment.
template <class S, int N>
class alignas(sizeof(S) * N < 16 ? sizeof(S) * N : 16) Pack {
 public:
  __device__ __forceinline__ float get(int i) const { return widen(v_[i]); }
  __device__ __forceinline__ void set(int i, float x) { v_[i] = narrow<S>(x); }

 private:
  S v_[N];
};

__device__ __forceinline__ float widen_bits(uint32_t bits, __half) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ float widen_bits(uint32_t bits, __nv_bfloat16) {
  return __bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ uint32_t bits_of(__half x) { return __half_as_ushort(x); }
__device__ __forceinline__ uint32_t bits_of(__nv_bfloat16 x) { return __bfloat16_as_ushort(x); }

// Half types stay two to a 32-bit register as they lie in memory: as elements of their own each would take a register.
template <class S, int N>
  requires(sizeof(S) == 2 && N > 1)
class alignas(2 * N) Pack<S, N> {
 public:
  __device__ __forceinline__ float get(int i) const { return widen_bits(words_[i / 2] >> (i % 2 * 16), S{}); }
  __device__ __forceinline__ void set(int i, float x) {
    const uint32_t other = words_[i / 2] & (i % 2 == 0 ? 0xffff0000u : 0xffffu);
    words_[i / 2] = other | bits_of(narrow<S>(x)) << (i % 2 * 16);
  }

 private:
  uint32_t words_[N / 2];
};

// The first element of a pack, zeros where `inside` doesn't hold.
template <class S, int N>
__device__ __forceinline__ Pack<S, N> load(const Planes& t, int64_t at, bool inside) {
  Pack<S, N> pack{};
  if (inside) pack = *reinterpret_cast<const Pack<S, N>*>(static_cast<const S*>(t.data) + at);
  return pack;
}

template <class S, int N>
__device__ __forceinline__ void store(const Planes& t, int64_t at, bool inside, const Pack<S, N>& pack) {
  if (inside) *reinterpret_cast<Pack<S, N>*>(static_cast<S*>(t.data) + at) = pack;
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

// Host side: whether rows of `width` pixels can be moved in packs of n.
inline bool packs(const Planes& t, int64_t width, int n) {
  const int64_t size = t.type == Type::kFloat ? 4 : 2;
  const int64_t bytes = size * n < 16 ? size * n : 16;
  return t.pixel == 1 && width % n == 0 && reinterpret_cast<uintptr_t>(t.data) % bytes == 0 &&
         (t.batch | t.channel | t.row) * size % bytes == 0;
}

}  // namespace zdce::cuda
