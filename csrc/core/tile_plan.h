// Which tiles of a picture a network is run on, one after the other, by so many threads.
#pragma once

#include <cstdint>
#include <vector>

#include "pass_geometry.h"

namespace zdce {

// Bytes of rows that a tile may keep: seven eighths of the second-level cache, from 1 to 4 MB; weights and scratch take
// the rest. More does no harm where the next cache is fast, and saves margins.
int64_t ring_bytes();

// Work on a tile's rows and columns, in multiply-adds: layers compute a margin of the tile's surroundings anew, above
// it where `below` another tile, and on `sides` (0 to 2) sides.
double tile_work(const Network& network, const Geometry& geometry, int rows, int columns, bool below, int sides);

// Tiles that cover the picture, equal but for the last of a row or column: of the grids tried, whose rows fit into
// `bytes` where tiles of 64 columns do, the one that all threads together finish soonest.
std::vector<PictureTile> plan_tiles(const Network& network, int height, int width, int threads,
                                    int64_t bytes = ring_bytes());

}  // namespace zdce
