// 64-byte vectors of float or double: one register on AVX-512, two on AVX2, four on SSE2 and NEON.
#pragma once

#include "../../curve.h"
#include "shared.h"

#define ZDCE_INLINE_LAMBDA __attribute__((always_inline))
#define ZDCE_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define ZDCE_UNROLL(times) ZDCE_PRAGMA(clang loop unroll(full))
#else
#define ZDCE_UNROLL(times) ZDCE_PRAGMA(GCC unroll times)
#endif

namespace zdce::ZDCE_TARGET {

template <class C, int kNumber>
struct VectorOf {
  typedef C type __attribute__((vector_size(kNumber * sizeof(C))));
};

template <class V>
using ElementOf = std::remove_cvref_t<decltype(std::declval<V&>()[0])>;

template <class C>
using IndexOf = std::conditional_t<
    sizeof(C) == 8, int64_t,
    std::conditional_t<sizeof(C) == 4, int32_t, std::conditional_t<sizeof(C) == 2, int16_t, int8_t>>>;

// Elements kAt of a and b side by side.
template <int... kAt, class V>
ZDCE_INLINE auto shuffle(V a, V b) {
#if __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b, kAt...);
#else
  // GCC 11: its shuffles give as many elements as they take, so both go into vectors of the larger number.
  using C = ElementOf<V>;
  constexpr int given = sizeof(V) / sizeof(C), wanted = sizeof...(kAt), at[wanted] = {kAt...};
  constexpr int wide = given > wanted ? given : wanted;
  typename VectorOf<C, wide>::type first{}, second{};
  std::memcpy(&first, &a, sizeof(a)), std::memcpy(&second, &b, sizeof(b));
  typename VectorOf<IndexOf<C>, wide>::type index{};
  for (int i = 0; i < wanted; ++i) index[i] = at[i] < given ? at[i] : at[i] - given + wide;
  const auto all = __builtin_shuffle(first, second, index);
  typename VectorOf<C, wanted>::type result;
  std::memcpy(&result, &all, sizeof(result));
  return result;
#endif
}

template <class C>
using Lanes = typename VectorOf<C, 64 / sizeof(C)>::type;

template <class C>
constexpr int kLanes = 64 / sizeof(C);

// n is the constant kLanes<C>, except at the end of a row; lanes from n on are 0.
template <class C>
ZDCE_INLINE Lanes<C> load(const C* from, int n) {
  Lanes<C> v{};
  if (n == kLanes<C>) {
    std::memcpy(&v, from, sizeof(v));
  } else {
    for (int i = 0; i < n; ++i) v[i] = from[i];
  }
  return v;
}

// Fetches the cache line of an address, which need not be valid, before it is needed. Many planes are read at once,
// each in runs that are too short for the processor's own prefetching.
ZDCE_INLINE void prefetch(const void* address) { __builtin_prefetch(address, 0, 2); }

template <class C>
ZDCE_INLINE void store(C* to, Lanes<C> v, int n) {
  if (n == kLanes<C>) {
    std::memcpy(to, &v, sizeof(v));
  } else {
    for (int i = 0; i < n; ++i) to[i] = v[i];
  }
}

// The same, but past the caches if `past_caches`: the line is not read first, and evicts no other. `to` is then aligned
// to 64 bytes. The four quarters are stored one after the other, so that the line is written to memory once.
template <class C>
ZDCE_INLINE void store(C* to, Lanes<C> v, int n, bool past_caches) {
#if defined(__x86_64__)
  if (past_caches && n == kLanes<C>) {
    const Lanes<float> bits = reinterpret_cast<Lanes<float>>(v);
    float* const line = reinterpret_cast<float*>(to);
    _mm_stream_ps(line, shuffle<0, 1, 2, 3>(bits, bits));
    _mm_stream_ps(line + 4, shuffle<4, 5, 6, 7>(bits, bits));
    _mm_stream_ps(line + 8, shuffle<8, 9, 10, 11>(bits, bits));
    _mm_stream_ps(line + 12, shuffle<12, 13, 14, 15>(bits, bits));
    return;
  }
#endif
  store(to, v, n);
}

// Makes this thread's stores past the caches visible before anything that it writes later.
inline void finish_stores() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// n ones, then zeros.
template <class C>
ZDCE_INLINE Lanes<C> ones(int n) {
  Lanes<C> v{};
  for (int i = 0; i < kLanes<C>; ++i) v[i] = i < n ? C{1} : C{0};
  return v;
}

// Each lane's neighbour before (after) it; the first (last) lane stays.
template <class C>
ZDCE_INLINE Lanes<C> before(Lanes<C> v) {
  if constexpr (kLanes<C> == 16) {
    return shuffle<0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14>(v, v);
  } else {
    return shuffle<0, 0, 1, 2, 3, 4, 5, 6>(v, v);
  }
}

template <class C>
ZDCE_INLINE Lanes<C> after(Lanes<C> v) {
  if constexpr (kLanes<C> == 16) {
    return shuffle<1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15>(v, v);
  } else {
    return shuffle<1, 2, 3, 4, 5, 6, 7, 7>(v, v);
  }
}

// The sum of all lanes, by halves, so that rounding errors grow with the logarithm of their number.
template <class C>
ZDCE_INLINE C total(Lanes<C> v) {
  C lanes[kLanes<C>];
  std::memcpy(lanes, &v, sizeof(v));
  for (int half = kLanes<C> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

using zdce::hyperbolic_tangent;

// curve.h's approximation is for float; double uses the standard library.
ZDCE_INLINE Lanes<double> hyperbolic_tangent(Lanes<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::tanh(x[i]);
  return x;
}

}  // namespace zdce::ZDCE_TARGET
