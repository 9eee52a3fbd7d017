// The kernels for AVX2 with FMA: 16 registers of 32 bytes.
#if defined(__x86_64__)

#define ZDCE_TARGET avx2
#define ZDCE_REGISTER_BYTES 32
#define ZDCE_STRIP_TILES 6
#define ZDCE_GRADIENT_OUTPUTS 4

#include "shared.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#include "table.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
