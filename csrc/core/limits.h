// Numbers that the core shares with its kernels and with CUDA's.
#pragma once

namespace zdce {

// More steps than any published network takes.
constexpr int kMaxIterations = 16;
constexpr int kMaxMaps = 3 * kMaxIterations;

// Guided maps have so many channels: a slope and an offset for each pixel's luma.
constexpr int kGuidedMaps = 2;

// Side of the regions whose means are the objective's statistics.
constexpr int kObjectiveRegion = 4;

// Regions along the side of a square whose exposure counts.
constexpr int kExposureSquare = 4;

// The total and its four terms: illumination, spatial, colour, exposure.
constexpr int kObjectiveScalars = 5;

// Rows and columns around a pixel that its denoised value depends on.
constexpr int kDenoiseReach = 4;

}  // namespace zdce
