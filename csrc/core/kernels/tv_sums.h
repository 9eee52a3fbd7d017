// tv_sums on the CPU: squared differences of neighbours, summed.
#pragma once

#include "each_tile.h"

namespace zdce::ZDCE_TARGET::tv_sums {

// Most channels of a tile; further channels are in other tiles. 24, the maps of T = 8, so that channels_last cache
// lines are read once.
constexpr int kTileChannels = 24;

template <class C>
using Row = const C* [kTileChannels];

template <class C>
struct Workspace {
  alignas(64) C rows[3][kTileChannels * kRunPitch], grad[kTileChannels * kRunPitch];
};

// One row of a tile: n columns, of which the first `pairs` have a right neighbour.
template <class C>
struct RowSums {
  // Float32: 4 bytes read a value; the row above comes from cache.
  ZDCE_INLINE static void run(const C* const* above, const C* const* row, int64_t next_row, int channels, int n,
                              int pairs, double* sums) {
    for (int k = 0; k < channels; ++k) {
      const C* const a = row[k];
      Lanes<C> along_y{}, along_x{};
      int i = 0;
      for (; i + kLanes<C> <= n; i += kLanes<C>) {
        if (i % kLine<C> == 0) prefetch(a + i + next_row);
        const Lanes<C> here = load(a + i, kLanes<C>);
        const Lanes<C> dx = (i + kLanes<C> <= pairs ? load(a + i + 1, kLanes<C>) : after<C>(here)) - here;
        along_x += dx * dx;
        if (above == nullptr) continue;
        const Lanes<C> dy = here - load(above[k] + i, kLanes<C>);
        along_y += dy * dy;
      }
      C last_y{0}, last_x{0};
      for (; i < n; ++i) {
        if (i < pairs) last_x += (a[i + 1] - a[i]) * (a[i + 1] - a[i]);
        if (above != nullptr) last_y += (a[i] - above[k][i]) * (a[i] - above[k][i]);
      }
      sums[0] += total<C>(along_y) + last_y;
      sums[1] += total<C>(along_x) + last_x;
    }
  }
};

// One row of a tile in backward: n columns. At the image's border, up or down is the row itself; columns before `first`
// and from `last` on have only one neighbour along x.
template <class C>
struct RowGradients {
  // Float32: 4 bytes read and 4 written a value; the neighbouring rows come from cache.
  ZDCE_INLINE static void run(const C* const* up, const C* const* row, const C* const* down, int64_t next_row,
                              int channels, int n, int first, int last, C along_y, C along_x, C* const* grad,
                              bool past_caches) {
    for (int k = 0; k < channels; ++k) {
      const C* const a = row[k];
      int i = 0;
      for (; i + kLanes<C> <= n; i += kLanes<C>) {
        if (i % kLine<C> == 0) prefetch(down[k] + i + next_row);
        const Lanes<C> here = load(a + i, kLanes<C>);
        const Lanes<C> left = i < first ? before<C>(here) : load(a + i - 1, kLanes<C>);
        const Lanes<C> right = i + kLanes<C> <= last ? load(a + i + 1, kLanes<C>) : after<C>(here);
        const Lanes<C> y = (here - load(up[k] + i, kLanes<C>)) + (here - load(down[k] + i, kLanes<C>));
        const Lanes<C> x = (here - left) + (here - right);
        store(grad[k] + i, along_y * y + along_x * x, kLanes<C>, past_caches);
      }
      for (; i < n; ++i) {
        const C left = i < first ? a[i] : a[i - 1], right = i < last ? a[i + 1] : a[i];
        grad[k][i] = along_y * ((a[i] - up[k][i]) + (a[i] - down[k][i])) + along_x * ((a[i] - left) + (a[i] - right));
      }
    }
  }
};

// The tiles of all groups of kTileChannels channels.
struct Groups {
  explicit Groups(const Planes& maps)
      : maps(maps),
        groups((maps.channels + kTileChannels - 1) / kTileChannels),
        tiling{maps.batch * groups, maps.height, maps.width, kTileRows, kRunPixels} {}

  // A tile's columns of row y, with `left` columns before them and `right` after.
  Piece piece(const Tile& tile, int64_t y, int left, int right) const {
    const int64_t first = tile.b % groups * kTileChannels;
    return {tile.b / groups,      first, std::min<int64_t>(kTileChannels, maps.channels - first), y, tile.x - left,
            left + tile.n + right};
  }

  const Planes& maps;
  int64_t groups;
  Tiling tiling;
};

struct Partial {
  double tv[2];
};

template <class C>
void forward(const Planes& maps, C* to) {
  const Groups groups(maps);
  std::vector<Partial> partials(groups.tiling.count());
  for_each_tile<Workspace<C>>(groups.tiling, values_of(maps), [&](const Tile& tile, Workspace<C>& space) {
    Partial partial{};
    const int right = tile.x + tile.n < maps.width;
    Row<C> rows[2];
    const C* const* above = nullptr;
    const int64_t begin = std::max<int64_t>(tile.y - 1, 0);
    for (int64_t y = begin; y < tile.y + tile.rows; ++y) {
      const int here = y & 1;
      const Piece piece = groups.piece(tile, y, 0, right);
      fetch(maps, piece, space.rows[here], kRunPitch, rows[here]);
      const C* const* const row = rows[here];
      if (y >= tile.y) {
        RowSums<C>::run(above, row, next_row<C>(maps), static_cast<int>(piece.channels), tile.n, tile.n - 1 + right,
                        static_cast<double*>(partial.tv));
      }
      above = row;
    }
    partials[tile.index] = partial;
  });
  for (int d = 0; d < 2; ++d) {
    double sum = 0;
    for (const Partial& partial : partials) sum += partial.tv[d];
    to[d] = static_cast<C>(sum);
  }
}

template <class C>
void backward(const C* tv, const Planes& maps, const Planes& grad_maps) {
  const bool streams = past_caches<C>(grad_maps);
  const Groups groups(maps);
  for_each_tile<Workspace<C>>(groups.tiling, values_of(maps), [&](const Tile& tile, Workspace<C>& space) {
    const int left = tile.x > 0, right = tile.x + tile.n < maps.width;
    Row<C> rows[3];
    const auto fetch_row = [&](int64_t y) {
      const Piece piece = groups.piece(tile, y, left, right);
      fetch(maps, piece, space.rows[y % 3], kRunPitch, rows[y % 3]);
      for (int k = 0; k < piece.channels; ++k) rows[y % 3][k] += left;
    };
    for (int64_t y = std::max<int64_t>(tile.y - 1, 0); y <= tile.y; ++y) fetch_row(y);
    for (int64_t y = tile.y; y < tile.y + tile.rows; ++y) {
      if (y + 1 < maps.height) fetch_row(y + 1);
      const C* const* const row = rows[y % 3];
      const C* const* const up = y > 0 ? rows[(y - 1) % 3] : row;
      const C* const* const down = y + 1 < maps.height ? rows[(y + 1) % 3] : row;
      const Piece piece = groups.piece(tile, y, 0, 0);
      C* grads[kTileChannels];
      target(grad_maps, piece, space.grad, kRunPitch, grads);
      RowGradients<C>::run(up, row, down, next_row<C>(maps), static_cast<int>(piece.channels), tile.n, 1 - left,
                           tile.n - 1 + right, 2 * tv[0], 2 * tv[1], static_cast<C* const*>(grads), streams);
      put(grad_maps, piece, space.grad, kRunPitch);
    }
  });
}

// maps: (B, C, H, W); sums: (2,), along y and along x, of double where the maps are, else float, written.
inline void run(const Planes& maps, void* sums) {
  if (maps.element == Element::kDouble) return forward<double>(maps, static_cast<double*>(sums));
  forward<float>(maps, static_cast<float*>(sums));
}

// grad: (2,), of double where the maps are, else float; maps, grad_maps (written): (B, C, H, W).
inline void run_backward(const void* grad, const Planes& maps, const Planes& grad_maps) {
  if (maps.element == Element::kDouble) return backward<double>(static_cast<const double*>(grad), maps, grad_maps);
  backward<float>(static_cast<const float*>(grad), maps, grad_maps);
}

}  // namespace zdce::ZDCE_TARGET::tv_sums
