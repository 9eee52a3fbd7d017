// The fixed partition of a batch into tiles. Each tile has its own sums, and one thread adds them in the order of the
// tiles, so that results are equal for every number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace zdce {

// Rows y to y + rows of columns x to x + n of image b.
struct Tile {
  int64_t index, b, y, x;
  int rows, n;
};

struct Tiling {
  int64_t batch, height, width;
  int rows, columns;

  int64_t down() const { return (height + rows - 1) / rows; }
  int64_t across() const { return (width + columns - 1) / columns; }
  int64_t per_image() const { return down() * across(); }
  int64_t count() const { return batch * per_image(); }

  Tile operator[](int64_t index) const {
    const int64_t in_image = index % per_image();
    const int64_t y = in_image / across() * rows, x = in_image % across() * columns;
    return {index,
            index / per_image(),
            y,
            x,
            static_cast<int>(std::min<int64_t>(rows, height - y)),
            static_cast<int>(std::min<int64_t>(columns, width - x))};
  }
};

}  // namespace zdce
