// How functions that the core, its kernels and CUDA share are declared.
#pragma once

#if defined(__CUDACC__)
#define ZDCE_INLINE __host__ __device__ __forceinline__
#else
#define ZDCE_INLINE inline __attribute__((always_inline))
#endif
