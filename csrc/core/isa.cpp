#include "isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace zdce {
namespace {

Isa chosen() {
#if defined(__x86_64__)
  constexpr Isa best_first[] = {Isa::kAvx512, Isa::kAvx2, Isa::kDefault};
#elif defined(__aarch64__)
  constexpr Isa best_first[] = {Isa::kNeon, Isa::kDefault};
#elif defined(__wasm__)
  constexpr Isa best_first[] = {Isa::kSimd128};
#else
  constexpr Isa best_first[] = {Isa::kDefault};
#endif
  const char* forced = std::getenv("ZDCE_ISA");
  for (const Isa isa : best_first) {
    if (forced == nullptr || *forced == '\0') {
      if (supported(isa)) return isa;
    } else if (std::string(forced) == isa_name(isa)) {
      if (supported(isa)) return isa;
      throw std::runtime_error(std::string("ZDCE_ISA=") + forced + " is not supported by this processor");
    }
  }
  std::string names;
  for (const Isa isa : best_first) names += std::string(isa_name(isa)) + ", ";
  throw std::runtime_error("ZDCE_ISA must be one of " + names + "got " + forced);
}

}  // namespace

bool supported(Isa isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return isa == Isa::kDefault || (isa == Isa::kAvx2 && avx2) || (isa == Isa::kAvx512 && avx512);
#elif defined(__aarch64__)
  return isa == Isa::kDefault || isa == Isa::kNeon;
#elif defined(__wasm__)
  return isa == Isa::kSimd128;
#else
  return isa == Isa::kDefault;
#endif
}

Isa isa() {
  static const Isa isa = chosen();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kNeon:
      return "neon";
    case Isa::kSimd128:
      return "simd128";
    case Isa::kDefault:
      return "default";
  }
  return "";
}

}  // namespace zdce
