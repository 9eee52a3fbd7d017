// Rec. 709's luma. Green, the least noisy colour of a sensor, counts most.
#pragma once

namespace zdce {

constexpr float kRed = 0.2126f, kGreen = 0.7152f, kBlue = 0.0722f;

}  // namespace zdce
