// The kernels for AVX-512: 32 registers of 64 bytes, and the matrix unit (AMX) of processors that have one.
#if defined(__x86_64__)

#define ZDCE_TARGET avx512
#define ZDCE_REGISTER_BYTES 64
#define ZDCE_STRIP_TILES 14
#define ZDCE_GRADIENT_OUTPUTS 16
#if defined(__linux__)
#define ZDCE_HAS_AMX 1
#endif

#include "shared.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif

#include "table.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
