// What bounds the kernels' registers and tables.
#pragma once

namespace zdce {

// More steps than any published network takes.
constexpr int kMaxIterations = 16;
constexpr int kMaxMaps = 3 * kMaxIterations;

}  // namespace zdce
