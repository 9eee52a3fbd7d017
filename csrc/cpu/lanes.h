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

}  // namespace zdce
