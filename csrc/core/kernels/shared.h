// Everything that kernels use and that is not compiled for each instruction set: the standard library and the core's
// headers. It is included before the region of an instruction set begins. Otherwise a function of the standard library
// might be compiled for AVX-512, and the linker might keep this copy for all callers.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../kernels.h"
#include "../network.h"
#include "../pack.h"
#include "../parallel.h"
#include "../planes.h"
#include "../tangent_table.h"
#include "../tiles.h"
#include "../workspace.h"
