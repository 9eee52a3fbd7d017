// What benchmarks compare with: memory alone, arithmetic alone, and the ways to do a convolution.

#include <algorithm>
#include <atomic>

#include "../core/parallel.h"
#include "tensors.h"

namespace zdce {
namespace {

// Values read and written in turns: short enough that both streams are always under way.
constexpr int64_t kChunk = 16384;

// source: (N,), read; target: (M,), written; sum: (1,), written, so that no reading can be left out.
void stream(const Tensor source, const Tensor target, const Tensor sum, bool past_caches) {
  const int64_t reads = source.numel(), writes = target.numel();
  const float* const from = floats(source, "source", {reads});
  float* const to = floats(target, "target", {writes});
  const int64_t chunks = std::max<int64_t>(1, std::max(reads, writes) / kChunk);
  const Kernels& set = kernels();
  std::atomic<double> seen{0};
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    float own = 0;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t r = reads * k / chunks, w = writes * k / chunks;
      own += set.stream_read(from + r, reads * (k + 1) / chunks - r);
      set.stream_write(to + w, writes * (k + 1) / chunks - w, past_caches);
    }
    double before = seen.load();
    while (!seen.compare_exchange_weak(before, before + own)) {
    }
  });
  *floats(sum, "sum", {1}) = static_cast<float>(seen.load());
}

// sums: (threads, 16) finite float32, read and written, so that no work can be left out. Gives the number of
// multiply-adds.
int64_t fma_peak(const Tensor sums, int64_t rounds) {
  const int64_t threads = sums.size(0);
  float* const to = floats(sums, "sums", {threads, 16});
  std::atomic<int64_t> number{0};
  parallel_for(threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) number += kernels().multiply_adds(to + t * 16, rounds);
  });
  return number;
}

// rows: (C, 6, columns + 2), columns a multiple of 48; weight: (O, C, 3, 3); bias: (O,); results: (O, 4, columns),
// written. Gives the seconds of one of `rounds` runs, packing left out.
double convolution_rate(const Tensor rows, const Tensor weight, const Tensor bias, int64_t way, int64_t rounds,
                        const Tensor results) {
  const int64_t inputs = rows.size(0), columns = rows.size(2) - 2, outputs = weight.size(0);
  const RateMethod method{way};
  if (inputs < 1 || inputs > kRateMostChannels || outputs < 1 || outputs > kRateMostChannels || columns < 1 ||
      columns > (1 << 16) || columns % kRateColumnStep != 0 || way < 0 || method > RateMethod::kColors ||
      (method == RateMethod::kColors && inputs != 3) || rounds < 1) {
    throw std::runtime_error(
        "zdce: rows must be (C, 6, W + 2), weight (O, C, 3, 3), bias (O,) and results (O, 4, W)"
        " with W a multiple of 48 and at most 128 channels, 3 of colours");
  }
  return kernels().convolution_rate(
      {static_cast<int>(inputs), static_cast<int>(outputs), static_cast<int>(columns),
       floats(rows, "rows", {inputs, 6, columns + 2}), floats(weight, "weight", {outputs, inputs, 3, 3}),
       floats(bias, "bias", {outputs}), floats(results, "results", {outputs, kBandRows, columns})},
      method, rounds);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("stream", TORCH_BOX(&zdce::stream));
  m.impl("fma_peak", TORCH_BOX(&zdce::fma_peak));
  m.impl("convolution_rate", TORCH_BOX(&zdce::convolution_rate));
}
