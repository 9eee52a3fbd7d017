// All that kernels use of the library and of this project that is not compiled for each instruction set. It comes
// before the first line that is: a function of the standard library compiled for AVX-512 could be the copy that the
// linker keeps for everybody.
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
#include "../tiles.h"
#include "../workspace.h"
