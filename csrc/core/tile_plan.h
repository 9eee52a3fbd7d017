// The tiles of a picture on which a network runs, for a given number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "pass_geometry.h"

namespace zdce {

// Bytes of a tile's rows: seven eighths of the second-level cache, from 1 to 4 MB; weights and scratch take the rest.
// If that cache is smaller than 1 MB, instead each thread's part of the third-level cache, from 1 to 2 MB: its rows are
// read in order, early enough, and wide tiles save margins (zero-dce takes a tenth less on Zen 3, base the same).
int64_t ring_bytes(int threads);

// Cost of a tile of rows and columns, in multiply-adds. Layers compute a margin around the tile again: above it if the
// tile is `below` another, and on `sides` (0 to 2) sides.
double tile_work(const Network& network, const Geometry& geometry, int rows, int columns, bool below, int sides);

// Tiles that cover the picture, equal except for the last of a row or column. Of the grids whose rows fit into `bytes`
// (if tiles of 64 columns do), it is the one that all threads together finish first.
std::vector<PictureTile> plan_tiles(const Network& network, int height, int width, int threads, int64_t bytes);

inline std::vector<PictureTile> plan_tiles(const Network& network, int height, int width, int threads) {
  return plan_tiles(network, height, width, threads, ring_bytes(threads));
}

}  // namespace zdce
