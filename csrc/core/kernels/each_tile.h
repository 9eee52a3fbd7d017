// Tiles of a batch on several threads.
#pragma once

#include "runs.h"

namespace zdce::ZDCE_TARGET {

// Rows of a tile, so that an image of one megapixel has enough tiles for all threads.
constexpr int kTileRows = 64;

// Values that take about as long as waking another thread.
constexpr int64_t kLeastValues = 1 << 15;

inline int64_t values_of(const Planes& t) { return t.batch * t.channels * t.height * t.width; }

// Calls f(tile, workspace) for every tile, on several threads, each with a Workspace of its own. values: of all tiles.
template <class Workspace, class F>
void for_each_tile(const Tiling& tiling, int64_t values, const F& f) {
  const int64_t least = tiling.count() * kLeastValues / std::max<int64_t>(1, values);
  // A dozen takings a thread: small tiles are many, and each taking waits for the others'.
  const int64_t part = std::max({int64_t{1}, least, tiling.count() / (12 * max_threads())});
  parallel_supply(tiling.count(), part, [&](Supply& supply) {
    const auto workspace = std::unique_ptr<Workspace>(new Workspace);
    for (int64_t begin, end; supply.take(begin, end);) {
      for (int64_t i = begin; i < end; ++i) f(tiling[i], *workspace);
    }
    finish_stores();
  });
}

}  // namespace zdce::ZDCE_TARGET
