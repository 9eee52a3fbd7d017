// Run-time choice of the instruction set. Kernels are written once and compiled for each set, in a namespace and a
// translation unit of its own (kernels/baseline.cpp and its neighbours).
#pragma once

namespace zdce {

enum class Isa { kDefault, kSimd128, kNeon, kAvx2, kAvx512 };

// The best set of this processor, or the one whose isa_name the environment variable ZDCE_ISA gives; read once.
// Throws std::runtime_error if ZDCE_ISA names an unknown set, or one that the processor lacks.
Isa isa();
bool supported(Isa isa);
const char* isa_name(Isa isa);

}  // namespace zdce
