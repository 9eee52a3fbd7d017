// What bounds the kernels' registers and tables.
#pragma once

namespace zdce {

// More steps than any published network takes.
constexpr int kMaxIterations = 16;
constexpr int kMaxMaps = 3 * kMaxIterations;

// Guided maps have so many channels: a slope and an offset for each pixel's luma.
constexpr int kGuidedMaps = 2;

}  // namespace zdce
