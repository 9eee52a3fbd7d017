// 64-byte vectors of float or double: one register on AVX-512, two on AVX2, four on SSE2 and NEON.
#pragma once

#include <cstring>

#include "isa.h"

namespace zdce {

template <class C>
struct LanesOf {
  typedef C type __attribute__((vector_size(64)));
};

template <class C>
using Lanes = typename LanesOf<C>::type;

template <class C>
constexpr int kLanes = 64 / sizeof(C);

// n is a constant kLanes<C> but for the last pixels of a block; the lanes beyond n are 0.
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

template <class C>
ZDCE_INLINE void store(C* to, Lanes<C> v, int n) {
  if (n == kLanes<C>) {
    std::memcpy(to, &v, sizeof(v));
  } else {
    for (int i = 0; i < n; ++i) to[i] = v[i];
  }
}

// n values beginning with ones, then zeros.
template <class C>
ZDCE_INLINE Lanes<C> ones(int n) {
  Lanes<C> v{};
  for (int i = 0; i < kLanes<C>; ++i) v[i] = i < n ? C{1} : C{0};
  return v;
}

// Pairs of halves, so that rounding errors grow with the logarithm of the lanes.
template <class C>
ZDCE_INLINE C total(Lanes<C> v) {
  C lanes[kLanes<C>];
  std::memcpy(lanes, &v, sizeof(v));
  for (int half = kLanes<C> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// The template of curve.h is for float; double takes the library's.
ZDCE_INLINE Lanes<double> hyperbolic_tangent(Lanes<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::tanh(x[i]);
  return x;
}

}  // namespace zdce
