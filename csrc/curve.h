// The arithmetic of the light-enhancement curve, once for every compiled backend.
#pragma once

#if defined(__CUDACC__)
#define ZDCE_INLINE __host__ __device__ __forceinline__
#else
#define ZDCE_INLINE inline __attribute__((always_inline))
#endif

namespace zdce {

// One step and its derivatives. Guo et al., CVPR 2020, eq. 3, with a = -alpha.
template <class V>
ZDCE_INLINE V step(V x, V a) {
  return x + a * (x * x - x);
}

template <class V>
ZDCE_INLINE V step_dx(V x, V a) {
  return 1 + a * (2 * x - 1);
}

template <class V>
ZDCE_INLINE V step_da(V x) {
  return x * x - x;
}

// More steps than any published network takes; it bounds the kernels' registers and tables.
constexpr int kMaxIterations = 16;

}  // namespace zdce
