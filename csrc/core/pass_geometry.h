// How a whole network goes over a picture: tiles, and the order of the rows of its layers.
#pragma once

#include "network.h"
#include "pictures.h"

namespace zdce {

// Pixels [top, bottom) x [left, right) of the result; top and left are multiples of 4.
struct PictureTile {
  int top, bottom, left, right;
};

inline int round_up(int value, int step) { return (value + step - 1) / step * step; }
inline int floor_div(int value, int by) { return value >= 0 ? value / by : -((-value + by - 1) / by); }

// What is the same for all tiles. Layer l computes rows in fours that begin at 4 b + lead[l], where lead falls to 0 at
// the last layer: then each layer needs just the four rows that the one before has finished, and two older ones. Fours
// of rows and of columns begin at fixed places of the picture, so that a pixel's value does not depend on the tile that
// it is computed in: in Winograd's arithmetic all inputs of a 4 x 4 tile touch each output's rounding.
struct Geometry {
  std::vector<int> lead, ring, margin, first;

  explicit Geometry(const Network& network) {
    const int layers = static_cast<int>(network.layers.size());
    lead.resize(layers), ring.assign(layers, 0), margin.assign(layers, 0), first.assign(layers, 0);
    for (int l = 0; l < layers; ++l) lead[l] = layers - 1 - l;
    for (int m = layers - 1; m >= 0; --m) {
      for (const int l : network.layers[m].sources) {
        ring[l] = std::max(ring[l], lead[l] - lead[m] + 5);
        margin[l] = std::max(margin[l], margin[m] + 4);
        first[l] = std::min(first[l], first[m] + floor_div(lead[m] - 1 - lead[l], 4));
      }
    }
  }

  // Rows of the picture from the last layer's first to the first layer's last.
  int image_ring() const { return lead[0] + 5; }
};

// Rows that are kept: of each layer, for those that read it alone, and of the sources that a layer reads side by side.
struct Rings {
  std::vector<int> own, joint;

  Rings(const Network& network, const Geometry& geometry)
      : own(network.layers.size(), 0), joint(network.layers.size(), 0) {
    for (size_t m = 0; m < network.layers.size(); ++m) {
      for (const int l : network.layers[m].sources) {
        int& rows = network.layers[m].joint() ? joint[m] : own[l];
        rows = std::max(rows, geometry.lead[l] - geometry.lead[m] + 5);
      }
    }
  }
};

// What a network leaves: the enhanced picture (H, W, 3), or, with `maps`, the curve maps, whose channels lie
// picture.channel_stride apart.
struct NetworkResult {
  Picture picture;
  bool maps;
  int channels;
  float strength;
};

}  // namespace zdce
