// Rec. 709's luma. Green, the least noisy colour of a sensor, counts most.
#pragma once

#include "inline.h"

namespace zdce {

constexpr float kRed = 0.2126f, kGreen = 0.7152f, kBlue = 0.0722f;

template <class V>
ZDCE_INLINE V luma(V red, V green, V blue) {
  return kRed * red + kGreen * green + kBlue * blue;
}

}  // namespace zdce
