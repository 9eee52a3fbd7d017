// apply_curve on the CPU: every input read once, every output written once, the T steps in registers.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../curve.h"
#include "isa.h"
#include "lanes.h"
#include "planes.h"

namespace zdce {
namespace {

// Blocks lie apart by more than their length: 1 KB would put the same pixel of all of them into four sets of L1.
constexpr int kPitch = kBlock + 16;

// One block of n pixels, planar. maps[k] is the plane of step k / 3 and colour k % 3; with shared maps the three planes
// stand at every step.
template <class C>
struct CurveBlock {
  int n, iterations;
  bool shared;
  const C* image[3];
  const C* maps[kMaxMaps];
  int64_t next;  // values from a block of the maps to that of the next pixels; 0 where blocks are copies
  C* enhanced[3];
  bool past_caches;  // of the enhanced image or, in backward, of the maps' gradient
  // Backward only. grad_image[0] or grad_maps[0] is null where that gradient is not wanted.
  const C* grad[3];
  C* grad_image[3];
  C* grad_maps[kMaxMaps];
};

// Float32: 12 + 12 T bytes read and 12 written a pixel; 120 for T = 8.
template <class C>
struct CurveForward {
  ZDCE_INLINE static void run(const CurveBlock<C>* block) {
    for (int c = 0; c < 3; ++c) {
      int i = 0;
      for (; i + kLanes<C> <= block->n; i += kLanes<C>) lanes(*block, c, i, kLanes<C>);
      if (i < block->n) lanes(*block, c, i, block->n - i);
    }
  }

  ZDCE_INLINE static void lanes(const CurveBlock<C>& block, int c, int i, int n) {
    Lanes<C> x = load(block.image[c] + i, n);
    for (int t = 0; t < block.iterations; ++t) {
      const C* const maps = block.maps[3 * t + c] + i;
      prefetch(maps + block.next);
      x = step(x, load(maps, n));
    }
    store(block.enhanced[c] + i, x, n, block.past_caches);
  }
};

// Float32: 24 + 12 T bytes read and 12 + 12 T written a pixel; 228 for T = 8. The steps are computed again, forward
// saves nothing.
template <class C>
struct CurveBackward {
  ZDCE_INLINE static void run(const CurveBlock<C>* block) {
    for (int c = 0; c < 3; ++c) {
      int i = 0;
      for (; i + kLanes<C> <= block->n; i += kLanes<C>) lanes(*block, c, i, kLanes<C>);
      if (i < block->n) lanes(*block, c, i, block->n - i);
    }
  }

  ZDCE_INLINE static void lanes(const CurveBlock<C>& block, int c, int i, int n) {
    Lanes<C> xs[kMaxIterations], as[kMaxIterations];  // x and a before each step
    Lanes<C> x = load(block.image[c] + i, n);
    for (int t = 0; t < block.iterations; ++t) {
      xs[t] = x;
      const C* const maps = block.maps[3 * t + c] + i;
      prefetch(maps + block.next);
      as[t] = load(maps, n);
      x = step(x, as[t]);
    }
    Lanes<C> g = load(block.grad[c] + i, n);
    Lanes<C> shared{};
    for (int t = block.iterations - 1; t >= 0; --t) {
      const Lanes<C> grad_map = g * step_da(xs[t]);
      shared += grad_map;
      if (block.grad_maps[0] != nullptr && !block.shared) {
        store(block.grad_maps[3 * t + c] + i, grad_map, n, block.past_caches);
      }
      g = g * step_dx(xs[t], as[t]);
    }
    if (block.grad_maps[0] != nullptr && block.shared) store(block.grad_maps[c] + i, shared, n);
    if (block.grad_image[0] != nullptr) store(block.grad_image[c] + i, g, n);
  }
};

// Memory for the blocks that are no part of a tensor.
template <class C, int kChannels>
struct Scratch {
  alignas(64) C memory[kChannels * kPitch];
};

// The n pixels from p on of image b, in all channels.
Piece piece(const Planes& t, int64_t b, int64_t p, int n) { return {b, 0, t.channels, 0, p, n}; }

template <class C>
void fetch_maps(Isa isa, const Planes& maps, int64_t b, int64_t p, Scratch<C, kMaxMaps>& scratch,
                CurveBlock<C>& block) {
  fetch(isa, maps, piece(maps, b, p, block.n), scratch.memory, kPitch, block.maps);
  block.next = is_block<C>(maps) ? kBlock : 0;
  if (block.shared) {
    for (int k = 3; k < 3 * block.iterations; ++k) block.maps[k] = block.maps[k % 3];
  }
}

// Calls f(b, p, n) for all blocks of n <= kBlock pixels from p on, on several threads.
template <class F>
void for_each_block(int64_t batch, int64_t pixels, const F& f) {
  const int64_t blocks = (pixels + kBlock - 1) / kBlock;
  // 16 blocks a thread at least: some 20 microseconds of work, several times the cost of waking a thread.
  torch::stable::parallel_for(0, batch * blocks, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t p = i % blocks * kBlock;
      f(i / blocks, p, static_cast<int>(std::min<int64_t>(kBlock, pixels - p)));
    }
    finish_stores();
  });
}

template <class C>
void forward(const Planes& image, const Planes& maps, int iterations, const Planes& enhanced) {
  const Isa best = isa();
  const bool streams = past_caches<C>(enhanced);
  for_each_block(image.batch, image.width, [&](int64_t b, int64_t p, int n) {
    Scratch<C, 3> image_scratch, enhanced_scratch;
    Scratch<C, kMaxMaps> maps_scratch;
    CurveBlock<C> block;
    block.n = n, block.iterations = iterations, block.shared = maps.channels == 3;
    block.past_caches = streams;
    fetch(best, image, piece(image, b, p, n), image_scratch.memory, kPitch, block.image);
    fetch_maps(best, maps, b, p, maps_scratch, block);
    target(enhanced, piece(enhanced, b, p, n), enhanced_scratch.memory, kPitch, block.enhanced);
    dispatch<CurveForward<C>>(best, const_cast<const CurveBlock<C>*>(&block));
    put(best, enhanced, piece(enhanced, b, p, n), enhanced_scratch.memory, kPitch);
  });
}

template <class C>
void backward(const Planes& grad, const Planes& image, const Planes& maps, int iterations, const Planes* grad_image,
              const Planes* grad_maps) {
  const Isa best = isa();
  const bool streams = grad_maps != nullptr && past_caches<C>(*grad_maps);
  for_each_block(image.batch, image.width, [&](int64_t b, int64_t p, int n) {
    Scratch<C, 3> grad_scratch, image_scratch, grad_image_scratch;
    Scratch<C, kMaxMaps> maps_scratch, grad_maps_scratch;
    CurveBlock<C> block;
    block.n = n, block.iterations = iterations, block.shared = maps.channels == 3;
    block.past_caches = streams;
    block.grad_image[0] = block.grad_maps[0] = nullptr;
    fetch(best, grad, piece(grad, b, p, n), grad_scratch.memory, kPitch, block.grad);
    fetch(best, image, piece(image, b, p, n), image_scratch.memory, kPitch, block.image);
    fetch_maps(best, maps, b, p, maps_scratch, block);
    if (grad_image != nullptr) {
      target(*grad_image, piece(*grad_image, b, p, n), grad_image_scratch.memory, kPitch, block.grad_image);
    }
    if (grad_maps != nullptr) {
      target(*grad_maps, piece(*grad_maps, b, p, n), grad_maps_scratch.memory, kPitch, block.grad_maps);
    }
    dispatch<CurveBackward<C>>(best, const_cast<const CurveBlock<C>*>(&block));
    if (grad_image != nullptr) put(best, *grad_image, piece(*grad_image, b, p, n), grad_image_scratch.memory, kPitch);
    if (grad_maps != nullptr) put(best, *grad_maps, piece(*grad_maps, b, p, n), grad_maps_scratch.memory, kPitch);
  });
}

// image: (B, 3, P); maps: (B, 3 T or 3, P); enhanced: (B, 3, P), written.
void apply_curve(const Tensor image, const Tensor maps, int64_t iterations, const Tensor enhanced) {
  const Planes i = planes(image, "image", 3), m = planes(maps, "maps", 3), e = planes(enhanced, "enhanced", 3);
  check_curve(i, m, "maps", iterations);
  check_shape(e, "enhanced", i.batch, 3, 1, i.width);
  (in_double(i, m) ? forward<double> : forward<float>)(i, m, static_cast<int>(iterations), e);
}

// grad, image: (B, 3, P); maps: (B, 3 T or 3, P); grad_image, grad_maps: as image and maps, written where given.
void apply_curve_backward(const Tensor grad, const Tensor image, const Tensor maps, int64_t iterations,
                          const std::optional<Tensor> grad_image, const std::optional<Tensor> grad_maps) {
  const Planes g = planes(grad, "grad", 3), i = planes(image, "image", 3), m = planes(maps, "maps", 3);
  check_curve(i, m, "maps", iterations);
  check_shape(g, "grad", i.batch, 3, 1, i.width);
  std::optional<Planes> gi, gm;
  if (grad_image) check_shape(gi.emplace(planes(*grad_image, "grad_image", 3)), "grad_image", i.batch, 3, 1, i.width);
  if (grad_maps)
    check_shape(gm.emplace(planes(*grad_maps, "grad_maps", 3)), "grad_maps", m.batch, m.channels, 1, m.width);
  (in_double(i, m) ? backward<double> : backward<float>)(g, i, m, static_cast<int>(iterations), gi ? &*gi : nullptr,
                                                         gm ? &*gm : nullptr);
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("apply_curve", TORCH_BOX(&zdce::apply_curve));
  m.impl("apply_curve_backward", TORCH_BOX(&zdce::apply_curve_backward));
}
