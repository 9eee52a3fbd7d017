// apply_curve on CUDA: every input read once, every output written once, the T steps in registers.
//
// Tensors are (B, C, P), P = H * W pixels. A thread has N neighbouring pixels in all three colours: a pack of 16 bytes
// of the maps' type where layout and alignment allow, else one pixel at any stride. With channels_last and T = 8 it has
// a pixel's maps as packs of 16 bytes.
#pragma once

#include "planes.cuh"

namespace zdce::cuda {

struct CurveShape {
  int64_t batch, pixels;
  int iterations;
  bool shared;  // maps are (B, 3, P), the same at every step
};

// 8 warps a block; no thread speaks to another, so that only the rounding of P up to whole blocks depends on it.
constexpr int kCurveThreads = 256;

__host__ __device__ __forceinline__ int64_t curve_blocks_per_image(int64_t pixels, int n) {
  return (pixels + kCurveThreads * n - 1) / (kCurveThreads * n);
}

// Grid (images x blocks of pixels), one-dimensional: the other two dimensions end at 65,535.
struct CurvePosition {
  int64_t b, p;

  __device__ CurvePosition(const CurveShape& shape, int n) {
    const int64_t blocks = curve_blocks_per_image(shape.pixels, n);
    b = blockIdx.x / blocks;
    p = ((blockIdx.x % blocks) * kCurveThreads + threadIdx.x) * n;
  }

  __device__ int64_t in(const Planes& t, int channel) const { return b * t.batch + channel * t.channel + p * t.pixel; }
};

// Float32: 12 + 12 T bytes read and 12 written a pixel; 120 for T = 8.
template <class M, int N>
__global__ void __launch_bounds__(kCurveThreads)
    curve_forward(const Planes image, const Planes maps, const Planes enhanced, const CurveShape shape) {
  const CurvePosition at(shape, N);
  const bool inside = at.p < shape.pixels;
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    float x[N];
    load<N>(image, at.in(image, c), inside, x);
    if (shape.shared) {
      float a[N];
      load_as<M, N>(maps, at.in(maps, c), inside, a);
      for (int t = 0; t < shape.iterations; ++t) {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = step(x[i], a[i]);
      }
    } else {
#pragma unroll 8  // that many loads are under way before the first step
      for (int t = 0; t < shape.iterations; ++t) {
        float a[N];
        load_as<M, N>(maps, at.in(maps, 3 * t + c), inside, a);
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = step(x[i], a[i]);
      }
    }
    store<N>(enhanced, at.in(enhanced, c), inside, x);
  }
}

// Float32: 24 + 12 T bytes read and 12 + 12 T written a pixel; 228 for T = 8. The steps are computed again, forward
// saves nothing. grad_image.data or grad_maps.data is null where that gradient is not wanted.
//
// A thread holds the packs of kMaps maps (1 where they are shared), and pixel after pixel the kSteps values of x; a
// map's gradient takes the place of the map, so that no second set of packs is alive.
template <class M, int N, int kMaps, int kSteps>
__global__ void __launch_bounds__(kCurveThreads, kMaps > 8 ? 1 : 2)
    curve_backward(const Planes grad, const Planes image, const Planes maps, const Planes grad_image,
                   const Planes grad_maps, const CurveShape shape) {
  const CurvePosition at(shape, N);
  const bool inside = at.p < shape.pixels;
#pragma unroll 1  // unrolled, the colours' packs would be alive together
  for (int c = 0; c < 3; ++c) {
    const int maps_here = kMaps == 1 ? 1 : shape.iterations;
    Pack<M, N> packs[kMaps];
#pragma unroll
    for (int t = 0; t < kMaps; ++t) {
      if (t < maps_here) packs[t] = load<M, N>(maps, at.in(maps, 3 * t + c), inside);
    }
    float start[N], g[N];
    load<N>(image, at.in(image, c), inside, start);
    load<N>(grad, at.in(grad, c), inside, g);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      float shared = 0;
      const auto map = [&](int t) { return packs[kMaps == 1 ? 0 : t].get(i); };
      const auto give = [&](int t, float grad_map) {
        if (kMaps == 1) {
          shared += grad_map;
        } else {
          packs[kMaps == 1 ? 0 : t].set(i, grad_map);
        }
      };
      steps_backward<kSteps>(start[i], g[i], shape.iterations, map, give);
      if (kMaps == 1) packs[0].set(i, shared);
    }
    if (grad_maps.data != nullptr) {
#pragma unroll
      for (int t = 0; t < kMaps; ++t) {
        if (t < maps_here) store<M, N>(grad_maps, at.in(grad_maps, 3 * t + c), inside, packs[t]);
      }
    }
    if (grad_image.data != nullptr) store<N>(grad_image, at.in(grad_image, c), inside, g);
  }
}

// As curve_forward and curve_backward, of maps whose channels lie side by side: a thread has a pixel and all its T = 8
// maps of three colours, each line of which it fetches whole.
template <class M>
__global__ void __launch_bounds__(kCurveThreads)
    curve_forward_pixels(const Planes image, const Planes maps, const Planes enhanced, const CurveShape shape) {
  const CurvePosition at(shape, 1);
  const bool inside = at.p < shape.pixels;
  Pixel<M> pixel;
  pixel.load(maps, at.in(maps, 0), inside);
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    float x[1];
    load<1>(image, at.in(image, c), inside, x);
#pragma unroll
    for (int t = 0; t < kPixelMaps; ++t) x[0] = step(x[0], pixel.get(3 * t + c));
    store<1>(enhanced, at.in(enhanced, c), inside, x);
  }
}

template <class M>
__global__ void __launch_bounds__(kCurveThreads)
    curve_backward_pixels(const Planes grad, const Planes image, const Planes maps, const Planes grad_image,
                          const Planes grad_maps, const CurveShape shape) {
  const CurvePosition at(shape, 1);
  const bool inside = at.p < shape.pixels;
  Pixel<M> pixel;
  pixel.load(maps, at.in(maps, 0), inside);
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    float start[1], g[1];
    load<1>(image, at.in(image, c), inside, start);
    load<1>(grad, at.in(grad, c), inside, g);
    const auto map = [&](int t) { return pixel.get(3 * t + c); };
    const auto give = [&](int t, float grad_map) { pixel.set(3 * t + c, grad_map); };
    steps_backward<kPixelMaps>(start[0], g[0], kPixelMaps, map, give);
    if (grad_image.data != nullptr) store<1>(grad_image, at.in(grad_image, c), inside, g);
  }
  if (grad_maps.data != nullptr) pixel.store(grad_maps, at.in(grad_maps, 0), inside);
}

// Host side: which kernel, over which grid. `launch(kernel, blocks, threads, arguments...)` starts it.

template <class M, class Launch>
void launch_curve_forward(const Launch& launch, const Planes& image, const Planes& maps, const Planes& enhanced,
                          const CurveShape& s) {
  constexpr int n = kPack<M>;
  const bool wide = packs(image, s.pixels, n) && packs(maps, s.pixels, n) && packs(enhanced, s.pixels, n);
  if (!wide && takes_pixels(maps, s.iterations, s.shared)) {
    launch(curve_forward_pixels<M>, s.batch * curve_blocks_per_image(s.pixels, 1), kCurveThreads, image, maps, enhanced,
           s);
    return;
  }
  launch(wide ? curve_forward<M, n> : curve_forward<M, 1>, s.batch * curve_blocks_per_image(s.pixels, wide ? n : 1),
         kCurveThreads, image, maps, enhanced, s);
}

template <class M, int kMaps, int kSteps, class Launch>
void launch_curve_backward(const Launch& launch, const Planes& grad, const Planes& image, const Planes& maps,
                           const Planes& grad_image, const Planes& grad_maps, const CurveShape& s) {
  constexpr int n = kPack<M>;
  bool wide = true;
  for (const Planes* t : {&grad, &image, &maps, &grad_image, &grad_maps}) {
    wide = wide && (t->data == nullptr || packs(*t, s.pixels, n));
  }
  const bool pixels = takes_pixels(maps, s.iterations, s.shared) &&
                      (grad_maps.data == nullptr || takes_pixels(grad_maps, s.iterations, s.shared));
  if (!wide && pixels) {
    launch(curve_backward_pixels<M>, s.batch * curve_blocks_per_image(s.pixels, 1), kCurveThreads, grad, image, maps,
           grad_image, grad_maps, s);
    return;
  }
  launch(wide ? curve_backward<M, n, kMaps, kSteps> : curve_backward<M, 1, kMaps, kSteps>,
         s.batch * curve_blocks_per_image(s.pixels, wide ? n : 1), kCurveThreads, grad, image, maps, grad_image,
         grad_maps, s);
}

// Own maps: up to T = 8, as in every published network, and up to 16 with twice the registers.
template <class M, class Launch>
void launch_curve_backward(const Launch& launch, const Planes& grad, const Planes& image, const Planes& maps,
                           const Planes& grad_image, const Planes& grad_maps, const CurveShape& s) {
  const auto chosen = s.shared            ? launch_curve_backward<M, 1, kMaxIterations, Launch>
                      : s.iterations <= 8 ? launch_curve_backward<M, 8, 8, Launch>
                                          : launch_curve_backward<M, kMaxIterations, kMaxIterations, Launch>;
  chosen(launch, grad, image, maps, grad_image, grad_maps, s);
}

// image: (B, 3, P); maps: (B, 3 T or 3, P); enhanced: (B, 3, P), written.
template <class Launch>
void launch_apply_curve(const Launch& launch, const Planes& image, const Planes& maps, const Planes& enhanced,
                        const CurveShape& s) {
  switch (maps.type) {
    case Type::kFloat:
      return launch_curve_forward<float>(launch, image, maps, enhanced, s);
    case Type::kHalf:
      return launch_curve_forward<__half>(launch, image, maps, enhanced, s);
    default:
      return launch_curve_forward<__nv_bfloat16>(launch, image, maps, enhanced, s);
  }
}

// grad, image: (B, 3, P); maps: (B, 3 T or 3, P); grad_image, grad_maps: as image and, type included, maps; written
// where given.
template <class Launch>
void launch_apply_curve_backward(const Launch& launch, const Planes& grad, const Planes& image, const Planes& maps,
                                 const Planes& grad_image, const Planes& grad_maps, const CurveShape& s) {
  switch (maps.type) {
    case Type::kFloat:
      return launch_curve_backward<float>(launch, grad, image, maps, grad_image, grad_maps, s);
    case Type::kHalf:
      return launch_curve_backward<__half>(launch, grad, image, maps, grad_image, grad_maps, s);
    default:
      return launch_curve_backward<__nv_bfloat16>(launch, grad, image, maps, grad_image, grad_maps, s);
  }
}

}  // namespace zdce::cuda
