// Numbers that the core shares with its kernels and with CUDA's.
#pragma once

namespace zdce {

// More steps than any published network takes.
constexpr int kMaxIterations = 16;
constexpr int kMaxMaps = 3 * kMaxIterations;

// More layers than any published network has. Nor does a layer read more sources.
constexpr int kMaxLayers = 64;

// Sides of pictures that networks run on are below this: tiles' coordinates are int.
constexpr int kSideLimit = 1 << 28;

// As MAX_SCALE in zdce/settings.py: a million pixels a side become one.
constexpr int kMaxScale = 1 << 20;

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
