// The regions whose means the objective's terms are of, on the CPU and in CUDA.
#pragma once

#include <cstdint>

#include "inline.h"
#include "limits.h"

namespace zdce {

// The regions of a batch, (B, down, across), and the squares of them that are complete.
struct RegionGrid {
  int64_t batch, down, across;

  ZDCE_INLINE int64_t regions() const { return batch * down * across; }
  ZDCE_INLINE int64_t squares() const { return batch * (down / kExposureSquare) * (across / kExposureSquare); }
};

}  // namespace zdce
