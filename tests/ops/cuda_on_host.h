// CUDA's words for a host compiler, so that the kernels in csrc/cuda/*.cuh run on the CPU as they stand. For tests
// only.
//
// The threads of a block are fibers: one runs until it waits at __syncthreads or at a warp shuffle, then the next. What
// waits is released as on the device, when the whole block or all lanes of the mask have arrived; a block in which
// nobody can go on is reported and ends the program. Blocks run on two real threads, each with its own __shared__
// memory.
//
// Under ThreadSanitizer each fiber counts as a thread of its own and a switch orders nothing, so that only barriers and
// shuffles do: two CUDA threads that touch the same memory without one between them are reported.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "../../csrc/core/halves.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define __restrict__ __restrict
#define __grid_constant__

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

namespace cuda_on_host {

constexpr int kLanes = 32;
constexpr int kWords =
    3;  // that a lane can give to its warp at once: an operand of a matrix product, and half of another
constexpr int kMaxThreads = 1024;
constexpr size_t kStack = 256 << 10;  // address sanitizer makes frames several times larger

// A meeting of a fixed number of threads, again and again. The atomics are what orders memory between fibers.
struct Barrier {
  std::atomic<int> arrived{0};
  std::atomic<unsigned> generation{0};
};

struct Warp {
  Barrier barrier;
  // Two sets, by turns: a lane may write for the next shuffle while another still reads for this one, but none gets two
  // shuffles ahead.
  uint64_t values[2][kLanes][kWords];
};

struct Fiber {
  ucontext_t context;
  char* stack = nullptr;
  Index thread;
  unsigned shuffles = 0;  // how many this lane took part in
  std::atomic<Barrier*> waits_for{nullptr};
  std::atomic<unsigned> since{0};
  std::atomic<bool> done{false};
  void* sanitized = nullptr;
};

// What one real thread needs to run blocks, one after the other.
struct Worker {
  ucontext_t context;
  void* sanitized = nullptr;
  Fiber fibers[kMaxThreads];
  Warp warps[kMaxThreads / kLanes];
  Barrier block;
  std::atomic<Fiber*> current{nullptr};
  Index block_index, block_size, grid_size;
  const std::function<void()>* kernel = nullptr;
  std::unique_ptr<uint8_t, decltype(&std::free)> dynamic{nullptr, &std::free};  // dynamic shared memory
  size_t dynamic_bytes = 0;
};

inline thread_local Worker* worker = nullptr;

inline Fiber& current() { return *worker->current.load(std::memory_order_relaxed); }

#if defined(__SANITIZE_ADDRESS__)
inline thread_local const void* worker_stack = nullptr;
inline thread_local size_t worker_stack_size = 0;
#endif

inline void to_worker(Fiber& fiber) {
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(worker->sanitized, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, worker_stack, worker_stack_size);
#endif
  swapcontext(&fiber.context, &worker->context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &worker_stack, &worker_stack_size);
#endif
}

inline void to_fiber(Fiber& fiber, [[maybe_unused]] bool first) {
  worker->current.store(&fiber, std::memory_order_relaxed);
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(fiber.sanitized, first ? 0 : __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, fiber.stack, kStack);
#endif
  swapcontext(&worker->context, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

inline void meet(Barrier& barrier, int threads) {
  Fiber& fiber = current();
  const unsigned generation = barrier.generation.load(std::memory_order_acquire);
  if (barrier.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
    barrier.arrived.store(0, std::memory_order_relaxed);
    barrier.generation.store(generation + 1, std::memory_order_release);
    return;
  }
  fiber.since.store(generation, std::memory_order_relaxed);
  fiber.waits_for.store(&barrier, std::memory_order_relaxed);
  to_worker(fiber);
  barrier.generation.load(std::memory_order_acquire);
}

inline void enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &worker_stack, &worker_stack_size);
#endif
  Fiber& fiber = current();
  (*worker->kernel)();
  // A thread that sees `done` may delete the worker, so nothing of it is read afterwards.
  const ucontext_t* back = &worker->context;
  [[maybe_unused]] void* sanitized = worker->sanitized;
  fiber.done.store(true, std::memory_order_release);
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(sanitized, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, worker_stack, worker_stack_size);
#endif
  setcontext(back);
}

// All threads of one block. Every second pass goes backwards, so that no order of threads is taken for granted.
inline void run_block(int threads) {
  Worker& w = *worker;
  if (w.dynamic_bytes > 0) std::memset(w.dynamic.get(), 0xff, w.dynamic_bytes);  // no numbers
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = w.fibers[i];
    if (fiber.stack == nullptr) {
      fiber.stack = static_cast<char*>(
          mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
#if defined(__SANITIZE_THREAD__)
      fiber.sanitized = __tsan_create_fiber(0);
#endif
    }
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
    fiber.thread = {static_cast<unsigned>(i), 0, 0};
    fiber.shuffles = 0;
    fiber.waits_for.store(nullptr, std::memory_order_relaxed);
    fiber.done.store(false, std::memory_order_relaxed);
  }
  int left = threads;
  for (int pass = 0; left > 0; ++pass) {
    bool moved = false;
    for (int k = 0; k < threads; ++k) {
      Fiber& fiber = w.fibers[pass % 2 == 0 ? k : threads - 1 - k];
      if (fiber.done.load(std::memory_order_relaxed)) continue;
      Barrier* barrier = fiber.waits_for.load(std::memory_order_relaxed);
      if (barrier != nullptr) {
        if (barrier->generation.load(std::memory_order_relaxed) == fiber.since.load(std::memory_order_relaxed))
          continue;
        fiber.waits_for.store(nullptr, std::memory_order_relaxed);
      }
      to_fiber(fiber, pass == 0);
      moved = true;
      left -= fiber.done.load(std::memory_order_relaxed) ? 1 : 0;
    }
    if (!moved) {
      std::fprintf(stderr, "cuda_on_host: block %u waits forever: %d threads are at a barrier that not all reach\n",
                   w.block_index.x, left);
      std::abort();
    }
  }
  for (int i = 0; i < threads; ++i) w.fibers[i].done.load(std::memory_order_acquire);
}

// Kept from launch to launch: fibers and their stacks are dear to make, to ThreadSanitizer above all.
inline Worker& kept_worker(int which) {
  static Worker* const workers[] = {new Worker, new Worker};
  return *workers[which];
}

// kernel(): what every thread of every block does. Returns when all have.
inline void launch(int64_t blocks, int threads, const std::function<void()>& kernel, size_t dynamic_bytes = 0) {
  if (threads < 1 || threads > kMaxThreads || threads % kLanes != 0) {
    std::fprintf(stderr, "cuda_on_host: %d threads a block are not 1 to 32 whole warps\n", threads);
    std::abort();
  }
  const auto run = [&](int which) {
    worker = &kept_worker(which);
#if defined(__SANITIZE_THREAD__)
    worker->sanitized = __tsan_get_current_fiber();
#endif
    worker->kernel = &kernel;
    worker->block_size.x = threads;
    worker->grid_size.x = static_cast<unsigned>(blocks);
    worker->dynamic_bytes = dynamic_bytes;
    worker->dynamic.reset(static_cast<uint8_t*>(std::aligned_alloc(128, (dynamic_bytes + 127) / 128 * 128)));
    for (int64_t i = which; i < blocks; i += 2) {
      worker->block_index.x = static_cast<unsigned>(i);
      run_block(threads);
    }
  };
  std::thread odd([&] { run(1); });
  std::thread even([&] { run(0); });
  odd.join();
  even.join();
}

// Every lane of the warp gives a value; what is returned tells another lane's. All 32 must take part.
template <class V>
auto gathered(unsigned mask, V value) {
  static_assert(sizeof(V) <= kWords * sizeof(uint64_t));
  if (mask != 0xffffffffu) {
    std::fprintf(stderr, "cuda_on_host: only shuffles of whole warps are known, got mask %x\n", mask);
    std::abort();
  }
  Fiber& fiber = current();
  Warp& warp = worker->warps[fiber.thread.x / kLanes];
  uint64_t (&values)[kLanes][kWords] = warp.values[fiber.shuffles++ % 2];
  std::memcpy(values[fiber.thread.x % kLanes], &value, sizeof(V));
  meet(warp.barrier, kLanes);
  return [&values](int lane) {
    V taken;
    std::memcpy(&taken, values[lane], sizeof(V));
    return taken;
  };
}

template <class V>
V exchange(unsigned mask, V value, int from) {
  return gathered(mask, value)(from);
}

// Matrices of 8 rows of 16 bytes that were loaded although two rows are in the same banks.
inline std::atomic<int64_t> bank_conflicts{0};

inline int lane() { return static_cast<int>(current().thread.x % kLanes); }

}  // namespace cuda_on_host

#define threadIdx (cuda_on_host::current().thread)
#define blockIdx (cuda_on_host::worker->block_index)
#define blockDim (cuda_on_host::worker->block_size)
#define gridDim (cuda_on_host::worker->grid_size)

inline void __syncthreads() {
  cuda_on_host::meet(cuda_on_host::worker->block, static_cast<int>(cuda_on_host::worker->block_size.x));
}

inline void __threadfence() {}  // atomicAdd orders what is written before it

inline unsigned atomicAdd(unsigned* to, unsigned value) { return __atomic_fetch_add(to, value, __ATOMIC_ACQ_REL); }

inline void __syncwarp() {
  cuda_on_host::meet(cuda_on_host::worker->warps[threadIdx.x / cuda_on_host::kLanes].barrier, cuda_on_host::kLanes);
}

using std::max;
using std::min;

template <class V>
V __shfl_sync(unsigned mask, V value, int lane) {
  return cuda_on_host::exchange(mask, value, lane % cuda_on_host::kLanes);
}

// Beyond the warp's ends a lane takes its own value.
template <class V>
V __shfl_down_sync(unsigned mask, V value, int delta) {
  const int from = cuda_on_host::lane() + delta;
  return cuda_on_host::exchange(mask, value, from < cuda_on_host::kLanes ? from : cuda_on_host::lane());
}

template <class V>
V __shfl_up_sync(unsigned mask, V value, int delta) {
  const int from = cuda_on_host::lane() - delta;
  return cuda_on_host::exchange(mask, value, from >= 0 ? from : cuda_on_host::lane());
}

template <class V>
V __shfl_xor_sync(unsigned mask, V value, int with) {
  return cuda_on_host::exchange(mask, value, cuda_on_host::lane() ^ with);
}

using __half = zdce::Half;
using __nv_bfloat16 = zdce::BFloat16;

inline float __half2float(__half x) { return zdce::widen<float>(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return zdce::widen<float>(x); }
inline __half __float2half_rn(float x) { return zdce::Narrow<__half>::from(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return zdce::Narrow<__nv_bfloat16>::from(x); }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

inline float __uint_as_float(uint32_t bits) { return zdce::float_of(bits); }
inline uint32_t __float_as_uint(float x) { return zdce::bits_of(x); }

inline double __ldcg(const double* from) { return *from; }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }

inline void __stcg(uint32_t* to, uint32_t value) { *to = value; }
inline void __stcg(uint2* to, uint2 value) { *to = value; }
inline void __stcg(uint4* to, uint4 value) { *to = value; }

// csrc/cuda/tensor_core.cuh, of which only the layout of operands stands there.
namespace zdce::cuda {

template <class H>
void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint2 b) {
  struct Operands {
    uint32_t a[4];
    uint2 b;
  };
  const auto of = cuda_on_host::gathered(0xffffffffu, Operands{{a[0], a[1], a[2], a[3]}, b});
  const int g = cuda_on_host::lane() / 4, t = cuda_on_host::lane() % 4;
  const auto number = [](uint32_t pair, int which) {
    return static_cast<double>(zdce::widen<float>(H{static_cast<uint16_t>(pair >> 16 * which)}));
  };
  double sums[4] = {c[0], c[1], c[2], c[3]};
  for (int k = 0; k < 16; ++k) {
    const int from = k % 8 / 2, right = k / 8, which = k % 2;
    const Operands row = of(4 * g + from);
    for (int i = 0; i < 4; ++i) {
      const Operands column = of(4 * (2 * t + i % 2) + from);
      sums[i] += number(row.a[2 * right + i / 2], which) * number(right ? column.b.y : column.b.x, which);
    }
  }
  for (int i = 0; i < 4; ++i) c[i] = static_cast<float>(sums[i]);
}

using SharedAddress = uintptr_t;

inline SharedAddress dynamic_shared() { return reinterpret_cast<uintptr_t>(cuda_on_host::worker->dynamic.get()); }

inline uint32_t load_word(SharedAddress at) { return *reinterpret_cast<const uint32_t*>(at); }
inline void store_word(SharedAddress at, uint32_t word) { *reinterpret_cast<uint32_t*>(at) = word; }
inline void store_words(SharedAddress at, uint2 words) { *reinterpret_cast<uint2*>(at) = words; }

inline void load_operand(SharedAddress row, uint32_t (&a)[4]) {
  const auto of = cuda_on_host::gathered(0xffffffffu, row);
  const int lane = cuda_on_host::lane();
  if (lane < 4) {
    unsigned banks = 0;
    for (int r = 0; r < 8; ++r) banks |= 1u << of(8 * lane + r) / 16 % 8;
    cuda_on_host::bank_conflicts += banks != 0xff;
  }
  for (int i = 0; i < 4; ++i) a[i] = load_word(of(8 * i + lane / 4) + 4 * (lane % 4));
}

template <class H>
uint32_t pair(float first, float second) {
  return zdce::Narrow<H>::from(first).bits | static_cast<uint32_t>(zdce::Narrow<H>::from(second).bits) << 16;
}

template <class H>
uint32_t rectified_pair(float first, float second) {
  return pair<H>(first < 0 ? 0 : first, second < 0 ? 0 : second);
}

inline uint32_t approximate_tangents(float first, float second) {
  return pair<__half>(std::tanh(first), std::tanh(second));
}

inline uint32_t scaled_halves(uint32_t both, float by) {
  const auto scaled = [by](uint32_t bits) {
    const float factor = zdce::widen<float>(zdce::Narrow<__half>::from(by));
    const float product = zdce::widen<float>(__half{static_cast<uint16_t>(bits)}) * factor;
    return product > 1 ? 1.0f : product < -1 ? -1.0f : product;
  };
  return pair<__half>(scaled(both & 0xffff), scaled(both >> 16));
}

}  // namespace zdce::cuda
