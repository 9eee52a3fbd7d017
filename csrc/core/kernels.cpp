#include "kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace zdce {
namespace {

bool has_amx() {
#if defined(__x86_64__) && defined(__linux__)
  static const bool usable = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
    if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
    constexpr unsigned kAvx512Bf16 = 1u << 5;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || (a & kAvx512Bf16) == 0) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return usable;
#else
  return false;
#endif
}

// Arm's extension of that name, which has BFMMLA.
bool has_bf16() {
#if defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kBf16 = 1ul << 14;  // HWCAP2_BF16, which older headers lack
  return (getauxval(AT_HWCAP2) & kBf16) != 0;
#elif defined(__aarch64__) && defined(__APPLE__)
  int has = 0;
  size_t length = sizeof(has);
  return sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &length, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}

}  // namespace

const Kernels& kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return avx512::kKernels;
    case Isa::kAvx2:
      return avx2::kKernels;
#endif
#if defined(__aarch64__)
    case Isa::kNeon:
      return neon::kKernels;
#endif
#if defined(__wasm__)
    default:
      return simd128::kKernels;
#else
    default:
      return baseline::kKernels;
#endif
  }
}

const Kernels& kernels() { return kernels(isa()); }

bool can_run_bfloat16() { return (isa() == Isa::kAvx512 && has_amx()) || (isa() == Isa::kNeon && has_bf16()); }

}  // namespace zdce
