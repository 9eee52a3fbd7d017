// The arithmetic of the light-enhancement curve, once for every compiled backend.
#pragma once

#include <cmath>

#include "core/inline.h"
#include "core/limits.h"

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

// tanh of float: x P(x^2) / Q(x^2), fitted to tanh(x) / x with a relative error below 2.1e-8 on
// [0, 9.02], past which float's tanh is 1. Rounding makes it 6 ulps at most. All coefficients are positive, so nothing
// cancels; both limits let NaN pass, and -0 stays -0. At 9.4 the fit is 3 ulps above 1: the second limit makes it 1
// even where the quotient is 2 ulps off, as CUDA's fast division may be, and saturated logits have no gradient at all.
constexpr float kTangentLimit = 9.4f;

template <class V>
struct Fraction {
  V numerator, denominator;
};

// x: within kTangentLimit of 0.
template <class V>
ZDCE_INLINE Fraction<V> tangent_fraction(V x) {
  const V u = x * x;
  const V p = (((u * 1.33191732e-08f + 2.05835531e-05f) * u + 3.49403918e-03f) * u + 1.33797213e-01f) * u + 1.0f;
  const V q = (((u * 7.76205809e-07f + 3.28310009e-04f) * u + 2.58710906e-02f) * u + 4.67130363e-01f) * u + 1.0f;
  return {x * p, q};
}

ZDCE_INLINE float within(float x, float limit) {
  x = x > limit ? limit : x;
  return x < -limit ? -limit : x;
}

template <class V>
ZDCE_INLINE V quotient(const Fraction<V>& of) {
  return of.numerator / of.denominator;
}

#if defined(__CUDA_ARCH__)
// A denominator from 1 to 1e4 needs none of what CUDA's quotients, fast ones too, do for the largest and smallest.
__device__ __forceinline__ float quotient(const Fraction<float>& of) {
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(of.denominator));
  return of.numerator * reciprocal;
}
#endif

ZDCE_INLINE float hyperbolic_tangent(float x) {
  return within(quotient(tangent_fraction(within(x, kTangentLimit))), 1.0f);
}

}  // namespace zdce
