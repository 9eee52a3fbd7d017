// Run-time choice of the instruction set: a body written once is compiled for each and picked by the processor.
#pragma once

#include "../curve.h"

#if defined(__x86_64__)
#define ZDCE_AVX2 __attribute__((target("avx2,fma")))
#define ZDCE_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#else
#define ZDCE_AVX2
#define ZDCE_AVX512
#endif

namespace zdce {

enum class Isa { kDefault, kAvx2, kAvx512 };

// The best set of this processor, or the one that ZDCE_ISA (default, avx2, avx512) names; read once.
// Throws std::runtime_error where ZDCE_ISA names an unknown set or one that the processor lacks.
Isa isa();
const char* isa_name(Isa isa);

template <class Body, class... Args>
void run_default(Args... args) {
  Body::run(args...);
}

template <class Body, class... Args>
ZDCE_AVX2 void run_avx2(Args... args) {
  Body::run(args...);
}

template <class Body, class... Args>
ZDCE_AVX512 void run_avx512(Args... args) {
  Body::run(args...);
}

// Body::run must be static and ZDCE_INLINE, all that it calls too: only inlined code takes the caller's instruction
// set.
template <class Body, class... Args>
void dispatch(Isa isa, Args... args) {
  switch (isa) {
    case Isa::kAvx512:
      return run_avx512<Body>(args...);
    case Isa::kAvx2:
      return run_avx2<Body>(args...);
    case Isa::kDefault:
      return run_default<Body>(args...);
  }
}

}  // namespace zdce
