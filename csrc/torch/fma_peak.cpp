// What benchmarks of arithmetic compare with: multiply-adds on registers, on all threads, and nothing else done.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstring>
#include <stdexcept>

#include "../core/isa.h"

namespace zdce {
namespace {

using torch::stable::Tensor;

// Vectors as wide as a register of the instruction set. Independent chains hide the latency of a multiply-add, 4 cycles
// on two units; with the two factors and a temporary they fit the 16 registers of AVX2.
constexpr int kChains = 12;
constexpr int kSums = 16;

template <int kBytes>
struct Chains {
  typedef float Vector __attribute__((vector_size(kBytes)));
  static constexpr int kWidth = kBytes / sizeof(float);

  static ZDCE_INLINE void run(float* sums, int64_t rounds) {
    const Vector factor = Vector{} + (sums[0] * 0.0f + 0.5f);  // not known to the compiler
    const Vector summand = factor + 0.5f;
    Vector chain[kChains];
    for (int k = 0; k < kChains; ++k) chain[k] = factor + static_cast<float>(k);
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
      for (int k = 0; k < kChains; ++k) chain[k] = chain[k] * factor + summand;
    }
    for (int k = 1; k < kChains; ++k) chain[0] += chain[k];
    std::memcpy(sums, &chain[0], kBytes);
  }
};

template <int kBytes>
int64_t run(float* sums, int64_t threads, int64_t rounds) {
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) dispatch<Chains<kBytes>>(isa(), sums + t * kSums, rounds);
  });
  return threads * rounds * kChains * Chains<kBytes>::kWidth;
}

// sums: (threads, 16) finite float32, read and written, so that no work can be left out. Gives the number of
// multiply-adds.
int64_t fma_peak(const Tensor sums, int64_t rounds) {
  if (sums.scalar_type() != torch::headeronly::ScalarType::Float || !sums.is_contiguous() || sums.dim() != 2 ||
      sums.size(1) != kSums) {
    throw std::runtime_error("zdce: sums must be contiguous float32 (threads, 16)");
  }
  float* const to = static_cast<float*>(sums.data_ptr());
  switch (isa()) {
    case Isa::kAvx512:
      return run<64>(to, sums.size(0), rounds);
    case Isa::kAvx2:
      return run<32>(to, sums.size(0), rounds);
    case Isa::kDefault:
      return run<16>(to, sums.size(0), rounds);
  }
  return 0;
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) { m.impl("fma_peak", TORCH_BOX(&zdce::fma_peak)); }
