// The fixed partition of a batch into tiles, which makes sums equal for every number of threads: a tile's sums are its
// own, and one thread adds them in the order of the tiles.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>

#include "planes.h"

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

// Calls f(tile, workspace) for every tile, on several threads, each with a Workspace of its own.
template <class Workspace, class F>
void for_each_tile(const Tiling& tiling, const F& f) {
  torch::stable::parallel_for(0, tiling.count(), 1, [&](int64_t begin, int64_t end) {
    const auto workspace = std::make_unique_for_overwrite<Workspace>();
    for (int64_t i = begin; i < end; ++i) f(tiling[i], *workspace);
    finish_stores();
  });
}

// A small contiguous tensor of float or double: statistics and their gradients.
template <class C>
C* grid(const Tensor& tensor, const char* name, std::initializer_list<int64_t> shape) {
  bool fits = tensor.is_cpu() && tensor.scalar_type() == kDtype<C> && tensor.is_contiguous() &&
              tensor.dim() == static_cast<int64_t>(shape.size());
  std::string expected;
  for (int64_t i = 0; const int64_t size : shape) {
    fits = fits && tensor.size(i++) == size;
    expected += (expected.empty() ? "(" : ", ") + std::to_string(size);
  }
  if (!fits) {
    throw std::runtime_error(std::string("zdce: ") + name + " must be a contiguous CPU tensor " + expected + ") of " +
                             (sizeof(C) == 8 ? "float64" : "float32"));
  }
  return static_cast<C*>(tensor.data_ptr());
}

}  // namespace zdce
