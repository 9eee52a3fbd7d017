// Multiply-adds on registers and nothing else: the peak that benchmarks compare with.
#pragma once

#include "winograd.h"

namespace zdce::ZDCE_TARGET::fma_peak {

// Independent chains hide the latency of a multiply-add: 4 cycles on two units. With two factors and a temporary they
// fit AVX2's 16 registers.
constexpr int kChains = 12;

// sums: (16,), finite; read and written, so that the compiler can't leave work out. Returns the number of
// multiply-adds.
inline int64_t run(float* sums, int64_t rounds) {
  const Register factor = Register{} + (sums[0] * 0.0f + 0.5f);  // not known to the compiler
  const Register summand = factor + 0.5f;
  Register chain[kChains];
  for (int k = 0; k < kChains; ++k) chain[k] = factor + static_cast<float>(k);
  for (int64_t i = 0; i < rounds; ++i) {
    ZDCE_UNROLL(12)
    for (int k = 0; k < kChains; ++k) chain[k] = chain[k] * factor + summand;
  }
  for (int k = 1; k < kChains; ++k) chain[0] += chain[k];
  store_register(sums, chain[0]);
  return rounds * kChains * kRegisterLanes;
}

}  // namespace zdce::ZDCE_TARGET::fma_peak
