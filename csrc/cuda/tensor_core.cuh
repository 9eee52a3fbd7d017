// Matrix products of one warp, and their operands in shared memory. PTX ISA, "Matrix multiply-accumulate operation
// using mma instruction", m16n8k16: of lane l, g = l / 4 and t = l % 4,
//
//   a  (16 x 16, 16-bit): rows g and g + 8, columns 2t, 2t + 1 in a[0], a[1], columns 2t + 8, 2t + 9 in a[2], a[3]
//   b  (16 x 8, 16-bit): rows 2t, 2t + 1 in b.x, rows 2t + 8, 2t + 9 in b.y, column g
//   c  (16 x 8, float): row g, columns 2t, 2t + 1 in c[0], c[1], row g + 8 in c[2], c[3]
#pragma once

#include "planes.cuh"

namespace zdce::cuda {

#if defined(__CUDACC__)

// c += a b. H is __half or __nv_bfloat16.
template <class H>
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint2 b) {
  if constexpr (std::is_same_v<H, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
  }
}

// Where something lies in shared memory. Numbers of 32 bits instead of pointers: the compiler adds what is the same for
// all lanes in the processor's path for such values.
using SharedAddress = uint32_t;

// The block's dynamic shared memory. The compiler would find the address again before each use, if it knew where it
// comes from.
__device__ __forceinline__ SharedAddress dynamic_shared() {
  extern __shared__ __align__(128) uint8_t memory[];
  SharedAddress at = static_cast<SharedAddress>(__cvta_generic_to_shared(memory));
  asm volatile("" : "+r"(at));
  return at;
}

// An operand a from four matrices of 8 x 8 in shared memory, the upper left, lower left, upper right and lower right
// one. row: lane l's, row l % 8 of matrix l / 8, 16 bytes.
__device__ __forceinline__ void load_operand(SharedAddress row, uint32_t (&a)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(row)
               : "memory");
}

__device__ __forceinline__ uint32_t load_word(SharedAddress at) {
  uint32_t word;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(at) : "memory");
  return word;
}

__device__ __forceinline__ void store_word(SharedAddress at, uint32_t word) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(word) : "memory");
}

__device__ __forceinline__ void store_words(SharedAddress at, uint2 words) {
  asm volatile("st.shared.v2.b32 [%0], {%1,%2};" ::"r"(at), "r"(words.x), "r"(words.y) : "memory");
}

// Two values side by side as they lie in memory.
template <class H>
__device__ __forceinline__ uint32_t pair(float first, float second) {
  uint32_t both;
  if constexpr (std::is_same_v<H, __half>) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  }
  return both;
}

// The same with 0 instead of what is below it; what is no number stays none.
template <class H>
__device__ __forceinline__ uint32_t rectified_pair(float first, float second) {
  uint32_t both;
  if constexpr (std::is_same_v<H, __half>) {
    asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  }
  return both;
}

// The hyperbolic tangents of two numbers, as two __half side by side. What is no number stays none. Errors are below
// 2^-10.
__device__ __forceinline__ uint32_t approximate_tangents(float first, float second) {
  uint32_t both = pair<__half>(first, second);
  asm("tanh.approx.f16x2 %0, %0;" : "+r"(both));
  return both;
}

// Two __half, each times `by`, within 1 of 0.
__device__ __forceinline__ uint32_t scaled_halves(uint32_t both, float by) {
  const uint32_t factors = pair<__half>(by, by), one = pair<__half>(1, 1), minus_one = pair<__half>(-1, -1);
  asm("{\n\t"
      "mul.f16x2 %0, %0, %1;\n\t"
      "min.NaN.f16x2 %0, %0, %2;\n\t"
      "max.NaN.f16x2 %0, %0, %3;\n\t"
      "}"
      : "+r"(both)
      : "r"(factors), "r"(one), "r"(minus_one));
  return both;
}

#endif

}  // namespace zdce::cuda
