// apply_curve on the CPU: every input read once, every output written once, the T steps in registers.
#pragma once

#include "runs.h"

namespace zdce::ZDCE_TARGET::apply_curve {

// A run of n pixels, planar. maps[k] is the plane of step k / 3 and colour k % 3; shared maps repeat the same three
// planes at every step.
template <class C>
struct CurveRun {
  int n, iterations;
  bool shared;
  const C* image[3];
  const C* maps[kMaxMaps];
  int64_t next;  // distance, in values, from a run of the maps to the next run; 0 if runs are copies
  C* enhanced[3];
  bool past_caches;  // whether the enhanced image (in backward: the maps' gradient) is stored past the caches
  // Backward only. grad_image[0] or grad_maps[0] is null if that gradient is not needed.
  const C* grad[3];
  C* grad_image[3];
  C* grad_maps[kMaxMaps];
};

// Float32: 12 + 12 T bytes read and 12 written a pixel; 120 for T = 8.
template <class C>
struct CurveForward {
  ZDCE_INLINE static void run(const CurveRun<C>* run) {
    for (int c = 0; c < 3; ++c) {
      each_line<C>(run->n, [&](int i, auto registers, int n) ZDCE_INLINE_LAMBDA { columns<registers>(*run, c, i, n); });
    }
  }

  template <int kRegisters>
  ZDCE_INLINE static void columns(const CurveRun<C>& run, int c, int i, int n) {
    Lanes<C> x[kRegisters];
    for (int r = 0; r < kRegisters; ++r) x[r] = load(run.image[c] + i + r * kLanes<C>, n);
    for (int t = 0; t < run.iterations; ++t) {
      const C* const maps = run.maps[3 * t + c] + i;
      prefetch(maps + run.next);
      for (int r = 0; r < kRegisters; ++r) x[r] = step(x[r], load(maps + r * kLanes<C>, n));
    }
    for (int r = 0; r < kRegisters; ++r) store(run.enhanced[c] + i + r * kLanes<C>, x[r], n, run.past_caches);
  }
};

// Float32: 24 + 12 T bytes read and 12 + 12 T written a pixel; 228 for T = 8. Forward saves nothing, so
// backward computes the steps again.
template <class C>
struct CurveBackward {
  ZDCE_INLINE static void run(const CurveRun<C>* run) {
    for (int c = 0; c < 3; ++c) {
      each_line<C>(run->n, [&](int i, auto registers, int n) ZDCE_INLINE_LAMBDA { columns<registers>(*run, c, i, n); });
    }
  }

  template <int kRegisters>
  ZDCE_INLINE static void columns(const CurveRun<C>& run, int c, int i, int n) {
    Lanes<C> xs[kMaxIterations][kRegisters], as[kMaxIterations][kRegisters];  // x and a before each step
    Lanes<C> x[kRegisters], g[kRegisters], shared[kRegisters] = {};
    for (int r = 0; r < kRegisters; ++r) x[r] = load(run.image[c] + i + r * kLanes<C>, n);
    for (int t = 0; t < run.iterations; ++t) {
      const C* const maps = run.maps[3 * t + c] + i;
      prefetch(maps + run.next);
      for (int r = 0; r < kRegisters; ++r) {
        xs[t][r] = x[r], as[t][r] = load(maps + r * kLanes<C>, n);
        x[r] = step(x[r], as[t][r]);
      }
    }
    for (int r = 0; r < kRegisters; ++r) g[r] = load(run.grad[c] + i + r * kLanes<C>, n);
    for (int t = run.iterations - 1; t >= 0; --t) {
      for (int r = 0; r < kRegisters; ++r) {
        const Lanes<C> grad_map = g[r] * step_da(xs[t][r]);
        shared[r] += grad_map;
        if (run.grad_maps[0] != nullptr && !run.shared) {
          store(run.grad_maps[3 * t + c] + i + r * kLanes<C>, grad_map, n, run.past_caches);
        }
        g[r] = g[r] * step_dx(xs[t][r], as[t][r]);
      }
    }
    for (int r = 0; r < kRegisters; ++r) {
      const int at = i + r * kLanes<C>;
      if (run.grad_maps[0] != nullptr && run.shared) store(run.grad_maps[c] + at, shared[r], n);
      if (run.grad_image[0] != nullptr) store(run.grad_image[c] + at, g[r], n);
    }
  }
};

// Memory for runs that are copies.
template <class C, int kChannels>
struct Scratch {
  alignas(64) C memory[kChannels * kRunPitch];
};

// Pixels p to p + n of image b, in all channels.
inline Piece piece(const Planes& t, int64_t b, int64_t p, int n) { return {b, 0, t.channels, 0, p, n}; }

template <class C>
void fetch_maps(const Planes& maps, int64_t b, int64_t p, Scratch<C, kMaxMaps>& scratch, CurveRun<C>& run) {
  fetch(maps, piece(maps, b, p, run.n), scratch.memory, kRunPitch, run.maps);
  run.next = is_run<C>(maps) ? kRunPixels : 0;
  if (run.shared) {
    for (int k = 3; k < 3 * run.iterations; ++k) run.maps[k] = run.maps[k % 3];
  }
}

// Calls f(b, p, n), on several threads, for runs of n <= kRunPixels pixels that begin at pixel p of image b.
template <class F>
void for_each_run(int64_t batch, int64_t pixels, const F& f) {
  const int64_t runs = (pixels + kRunPixels - 1) / kRunPixels;
  // At least 16 runs for each thread: about 20 microseconds of work, several times the cost of waking a thread.
  parallel_for(batch * runs, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t p = i % runs * kRunPixels;
      f(i / runs, p, static_cast<int>(std::min<int64_t>(kRunPixels, pixels - p)));
    }
    finish_stores();
  });
}

template <class C>
void forward(const Planes& image, const Planes& maps, int iterations, const Planes& enhanced) {
  const bool streams = past_caches<C>(enhanced);
  for_each_run(image.batch, image.width, [&](int64_t b, int64_t p, int n) {
    Scratch<C, 3> image_scratch, enhanced_scratch;
    Scratch<C, kMaxMaps> maps_scratch;
    CurveRun<C> run;
    run.n = n, run.iterations = iterations, run.shared = maps.channels == 3;
    run.past_caches = streams;
    fetch(image, piece(image, b, p, n), image_scratch.memory, kRunPitch, run.image);
    fetch_maps(maps, b, p, maps_scratch, run);
    target(enhanced, piece(enhanced, b, p, n), enhanced_scratch.memory, kRunPitch, run.enhanced);
    CurveForward<C>::run(const_cast<const CurveRun<C>*>(&run));
    put(enhanced, piece(enhanced, b, p, n), enhanced_scratch.memory, kRunPitch);
  });
}

template <class C>
void backward(const Planes& grad, const Planes& image, const Planes& maps, int iterations, const Planes* grad_image,
              const Planes* grad_maps) {
  const bool streams = grad_maps != nullptr && past_caches<C>(*grad_maps);
  for_each_run(image.batch, image.width, [&](int64_t b, int64_t p, int n) {
    Scratch<C, 3> grad_scratch, image_scratch, grad_image_scratch;
    Scratch<C, kMaxMaps> maps_scratch, grad_maps_scratch;
    CurveRun<C> run;
    run.n = n, run.iterations = iterations, run.shared = maps.channels == 3;
    run.past_caches = streams;
    run.grad_image[0] = run.grad_maps[0] = nullptr;
    fetch(grad, piece(grad, b, p, n), grad_scratch.memory, kRunPitch, run.grad);
    fetch(image, piece(image, b, p, n), image_scratch.memory, kRunPitch, run.image);
    fetch_maps(maps, b, p, maps_scratch, run);
    if (grad_image != nullptr) {
      target(*grad_image, piece(*grad_image, b, p, n), grad_image_scratch.memory, kRunPitch, run.grad_image);
    }
    if (grad_maps != nullptr) {
      target(*grad_maps, piece(*grad_maps, b, p, n), grad_maps_scratch.memory, kRunPitch, run.grad_maps);
    }
    CurveBackward<C>::run(const_cast<const CurveRun<C>*>(&run));
    if (grad_image != nullptr) put(*grad_image, piece(*grad_image, b, p, n), grad_image_scratch.memory, kRunPitch);
    if (grad_maps != nullptr) put(*grad_maps, piece(*grad_maps, b, p, n), grad_maps_scratch.memory, kRunPitch);
  });
}

// image: (B, 3, 1, P); maps: (B, 3 T or 3, 1, P); enhanced: (B, 3, 1, P), written.
inline void run(const Planes& image, const Planes& maps, int iterations, const Planes& enhanced) {
  (in_double(image, maps) ? forward<double> : forward<float>)(image, maps, iterations, enhanced);
}

// grad, image: (B, 3, 1, P); maps: (B, 3 T or 3, 1, P); grad_image, grad_maps: as image and maps, written where not
// null.
inline void run_backward(const Planes& grad, const Planes& image, const Planes& maps, int iterations,
                         const Planes* grad_image, const Planes* grad_maps) {
  (in_double(image, maps) ? backward<double> : backward<float>)(grad, image, maps, iterations, grad_image, grad_maps);
}

}  // namespace zdce::ZDCE_TARGET::apply_curve
