// Tiles of a batch on several threads.
#pragma once

#include "runs.h"

namespace zdce::ZDCE_TARGET {

// Calls f(tile, workspace) for every tile, on several threads, each with a Workspace of its own.
template <class Workspace, class F>
void for_each_tile(const Tiling& tiling, const F& f) {
  parallel_for(tiling.count(), 1, [&](int64_t begin, int64_t end) {
    const auto workspace = std::unique_ptr<Workspace>(new Workspace);
    for (int64_t i = begin; i < end; ++i) f(tiling[i], *workspace);
    finish_stores();
  });
}

}  // namespace zdce::ZDCE_TARGET
