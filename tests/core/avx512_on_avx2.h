// The instructions that the AVX-512 kernels name, for processors without them: the compiler takes vectors of 64 bytes
// apart.
#pragma once

#include <immintrin.h>

#define _mm512_stream_ps(to, v) (*reinterpret_cast<__m512*>(to) = (v))
#define _mm512_maskz_min_ps(mask, a, b) (static_cast<void>(mask), (a) < (b) ? (a) : (b))
#define _mm512_maskz_max_ps(mask, a, b) (static_cast<void>(mask), (a) > (b) ? (a) : (b))
#define _mm512_permutexvar_ps(at, v) __builtin_shuffle(v, reinterpret_cast<__v16si>(at))
