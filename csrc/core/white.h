// What 1 is in memory: 255 in 8 bits, 65535 in 16, and 1 in float.
#pragma once

#include <cstdint>

namespace zdce {

template <class E>
constexpr float kWhite = 1;
template <>
inline constexpr float kWhite<uint8_t> = 255;
template <>
inline constexpr float kWhite<uint16_t> = 65535;

}  // namespace zdce
