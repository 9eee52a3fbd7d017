// Reading and writing memory and nothing else: the bandwidth that benchmarks compare with.
#pragma once

#include "lanes.h"

namespace zdce::ZDCE_TARGET::streaming {

// The sum of n values.
inline float read(const float* from, int64_t n) {
  Register sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kRegisterLanes <= n; i += 4 * kRegisterLanes) {
    for (int k = 0; k < 4; ++k) sums[k] += load_register(from + i + k * kRegisterLanes);
  }
  float sum = total<float>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < n; ++i) sum += from[i];
  return sum;
}

// Writes 1 to n values.
inline void write(float* to, int64_t n, bool past_caches) {
  int64_t i = 0;
  for (; i < n && reinterpret_cast<uintptr_t>(to + i) % 64 != 0; ++i) to[i] = 1.0f;
  for (; i + kRegisterLanes <= n; i += kRegisterLanes) {
    store(to + i, Register{} + 1.0f, kRegisterLanes, past_caches);
  }
  for (; i < n; ++i) to[i] = 1.0f;
  finish_stores();
}

}  // namespace zdce::ZDCE_TARGET::streaming
