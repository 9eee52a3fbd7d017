// What benchmarks compare with: bytes read and bytes written on all threads, and nothing else done.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "../core/isa.h"
#include "../core/lanes.h"

namespace zdce {
namespace {

using torch::stable::Tensor;

// Values read and written in turns: short enough that both streams are always under way.
constexpr int64_t kChunk = 16384;

struct Read {
  ZDCE_INLINE static void run(const float* from, int64_t n, float* sum) {
    Lanes<float> sums[4] = {};
    int64_t i = 0;
    for (; i + 4 * kLanes<float> <= n; i += 4 * kLanes<float>) {
      for (int k = 0; k < 4; ++k) sums[k] += load(from + i + k * kLanes<float>, kLanes<float>);
    }
    *sum += total<float>((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < n; ++i) *sum += from[i];
  }
};

struct Write {
  ZDCE_INLINE static void run(float* to, int64_t n, bool past_caches) {
    int64_t i = 0;
    for (; i < n && reinterpret_cast<uintptr_t>(to + i) % 64 != 0; ++i) to[i] = 1.0f;
    for (; i + kLanes<float> <= n; i += kLanes<float>) {
      store(to + i, Lanes<float>{} + 1.0f, kLanes<float>, past_caches);
    }
    for (; i < n; ++i) to[i] = 1.0f;
  }
};

int64_t check(const Tensor& tensor, const char* name) {
  if (tensor.scalar_type() != torch::headeronly::ScalarType::Float || !tensor.is_contiguous()) {
    throw std::runtime_error(std::string("zdce: ") + name + " must be contiguous float32");
  }
  return tensor.numel();
}

// source: (N,), read; target: (M,), written; sum: (1,), written, so that no reading can be left out.
void stream(const Tensor source, const Tensor target, const Tensor sum, bool past_caches) {
  const int64_t reads = check(source, "source"), writes = check(target, "target");
  if (check(sum, "sum") != 1) throw std::runtime_error("zdce: sum must have one element");
  const float* const from = static_cast<const float*>(source.data_ptr());
  float* const to = static_cast<float*>(target.data_ptr());
  const int64_t chunks = std::max<int64_t>(1, std::max(reads, writes) / kChunk);
  const Isa best = isa();
  std::atomic<double> seen{0};
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    float own = 0;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t r = reads * k / chunks, w = writes * k / chunks;
      dispatch<Read>(best, from + r, reads * (k + 1) / chunks - r, &own);
      dispatch<Write>(best, to + w, writes * (k + 1) / chunks - w, past_caches);
    }
    finish_stores();
    seen += own;
  });
  static_cast<float*>(sum.data_ptr())[0] = static_cast<float>(seen.load());
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) { m.impl("stream", TORCH_BOX(&zdce::stream)); }
