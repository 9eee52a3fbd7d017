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

// An operand a from four matrices of 8 x 8 in shared memory, the upper left, lower left, upper right and lower right
// one. row: lane l's, row l % 8 of matrix l / 8, 16 bytes.
__device__ __forceinline__ void load_operand(const void* row, uint32_t (&a)[4]) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(at)
               : "memory");
}

// Within 2^-11 of itself.
__device__ __forceinline__ float approximate_tangent(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ uint8_t* dynamic_shared() {
  extern __shared__ __align__(128) uint8_t memory[];
  return memory;
}

#endif

// Two values side by side as they lie in memory.
template <class H>
__device__ __forceinline__ uint32_t pair(float first, float second) {
  return narrow<H>(first) | narrow<H>(second) << 16;
}

}  // namespace zdce::cuda
