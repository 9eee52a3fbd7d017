// Registers of values of one type, ZDCE_REGISTER_BYTES wide. Vectors wider than a register are no alternative: GCC
// takes comparisons and shuffles of them apart, value by value.
#pragma once

#include "../../curve.h"
#include "shared.h"

#define ZDCE_INLINE_LAMBDA __attribute__((always_inline))
// For loops that need all registers: in a large function GCC allocates them worse.
#define ZDCE_NOINLINE __attribute__((noinline))
#define ZDCE_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define ZDCE_UNROLL(times) ZDCE_PRAGMA(clang loop unroll(full))
#define ZDCE_NO_UNROLL ZDCE_PRAGMA(clang loop unroll(disable))
#else
#define ZDCE_NO_UNROLL ZDCE_PRAGMA(GCC unroll 1)
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
constexpr int kLanes = ZDCE_REGISTER_BYTES / sizeof(C);

template <class C>
using Lanes = typename VectorOf<C, kLanes<C>>::type;

// Vector registers that the instruction set has.
#if ZDCE_REGISTER_BYTES == 64 || defined(__aarch64__)
constexpr int kProcessorRegisters = 32;
#else
constexpr int kProcessorRegisters = 16;
#endif

// Registers of a cache line. Kernels that write several planes go a whole line at a time: a line written past the
// caches in pieces, with other planes' in between, reaches the memory in pieces.
constexpr int kLineRegisters = 64 / ZDCE_REGISTER_BYTES;

template <class C>
constexpr int kLine = kLineRegisters * kLanes<C>;

// Calls f(i, registers, n) for `values` values: for a line's registers from value i on, each with n = kLanes<C> values
// or, at the end, for one register with at most as many.
template <class C, class F>
ZDCE_INLINE void each_line(int values, const F& f) {
  int i = 0;
  for (; i + kLine<C> <= values; i += kLine<C>) f(i, std::integral_constant<int, kLineRegisters>(), kLanes<C>);
  for (; i < values; i += kLanes<C>) f(i, std::integral_constant<int, 1>(), std::min(kLanes<C>, values - i));
}

// Vectors of 16 bytes, which every instruction set has.
using Floats4 = VectorOf<float, 4>::type;
using Ints4 = VectorOf<int32_t, 4>::type;
using Halves8 = VectorOf<uint16_t, 8>::type;
using Bytes16 = VectorOf<uint8_t, 16>::type;

// Four 16-bit values, each in the low (kHigh: the high) half of 32 bits, the other half 0. By a shuffle with zeros: GCC
// 12 converts vectors of 8 bytes value by value.
template <bool kHigh>
ZDCE_INLINE Ints4 widened_four(const void* from) {
  int64_t four;  // as one number: through an array, GCC would store 8 bytes and wait for them to load 16
  std::memcpy(&four, from, sizeof(four));
  const Halves8 v = reinterpret_cast<Halves8>(VectorOf<int64_t, 2>::type{four, 0}), zero{};
  return reinterpret_cast<Ints4>(kHigh ? shuffle<8, 0, 9, 1, 10, 2, 11, 3>(v, zero)
                                       : shuffle<0, 8, 1, 9, 2, 10, 3, 11>(v, zero));
}

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
// to a register's bytes, and the line's other registers follow soon, so that it is written to memory once.
template <class C>
ZDCE_INLINE void store(C* to, Lanes<C> v, int n, bool past_caches) {
#if defined(__x86_64__)
  if (past_caches && n == kLanes<C>) {
    float* const at = reinterpret_cast<float*>(to);
#if ZDCE_REGISTER_BYTES == 64
    _mm512_stream_ps(at, reinterpret_cast<__m512>(v));
#elif ZDCE_REGISTER_BYTES == 32
    _mm256_stream_ps(at, reinterpret_cast<__m256>(v));
#else
    _mm_stream_ps(at, reinterpret_cast<__m128>(v));
#endif
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

// Lane i of the result is lane i + kBy of v; where there is none, lane i.
template <int kBy, class C, int... kAt>
ZDCE_INLINE Lanes<C> shifted(Lanes<C> v, std::integer_sequence<int, kAt...>) {
  return shuffle<(kAt + kBy < 0 ? 0 : kAt + kBy < kLanes<C> ? kAt + kBy : kAt)...>(v, v);
}

// Each lane's neighbour before (after) it; the first (last) lane stays.
template <class C>
ZDCE_INLINE Lanes<C> before(Lanes<C> v) {
  return shifted<-1, C>(v, std::make_integer_sequence<int, kLanes<C>>());
}

template <class C>
ZDCE_INLINE Lanes<C> after(Lanes<C> v) {
  return shifted<1, C>(v, std::make_integer_sequence<int, kLanes<C>>());
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

// The register that most kernels are about.
using Register = Lanes<float>;
using RegisterBits = Lanes<uint32_t>;
constexpr int kRegisterLanes = kLanes<float>;

ZDCE_INLINE Register load_register(const float* from) {
  Register v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

ZDCE_INLINE void store_register(float* to, Register v) { std::memcpy(to, &v, sizeof(v)); }

// The smaller (larger) value of each lane; b if either is NaN. This is one instruction of x86; for a comparison GCC
// generates two. AVX-512's mask selects all lanes: without one, GCC 12 warns about its own header.
ZDCE_INLINE Register smaller(Register a, Register b) {
#if ZDCE_REGISTER_BYTES == 64
  return reinterpret_cast<Register>(
      _mm512_maskz_min_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif ZDCE_REGISTER_BYTES == 32
  return reinterpret_cast<Register>(_mm256_min_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#elif defined(__x86_64__)
  return reinterpret_cast<Register>(_mm_min_ps(reinterpret_cast<__m128>(a), reinterpret_cast<__m128>(b)));
#else
  return a < b ? a : b;
#endif
}

ZDCE_INLINE Register larger(Register a, Register b) {
#if ZDCE_REGISTER_BYTES == 64
  return reinterpret_cast<Register>(
      _mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif ZDCE_REGISTER_BYTES == 32
  return reinterpret_cast<Register>(_mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#elif defined(__x86_64__)
  return reinterpret_cast<Register>(_mm_max_ps(reinterpret_cast<__m128>(a), reinterpret_cast<__m128>(b)));
#else
  return a > b ? a : b;
#endif
}

// x limited to [-limit, limit]; NaN stays NaN.
ZDCE_INLINE Register within(Register x, float limit) {
  const Register most = Register{} + limit;
  return larger(-most, smaller(most, x));
}

// As curve.h's, which limits one value by comparisons.
ZDCE_INLINE Register hyperbolic_tangent(Register x) {
  return within(quotient(tangent_fraction(within(x, kTangentLimit))), 1.0f);
}

// curve.h's approximation is for float; double uses the standard library.
ZDCE_INLINE Lanes<double> hyperbolic_tangent(Lanes<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::tanh(x[i]);
  return x;
}

}  // namespace zdce::ZDCE_TARGET
