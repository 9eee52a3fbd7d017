#include "tile_plan.h"

#include <algorithm>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace zdce {
namespace {

// In narrower tiles the margins would be larger than the tiles themselves.
constexpr int kLeastColumns = 64;

// Time that threads wait for the last tile: half a tile on average if processors differ in speed or have other work,
// none if they are equal. The plan counts half of that.
constexpr double kWaiting = 0.25;

// 0 if it is not known, as also of third_level_cache.
int64_t second_level_cache() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  return sysconf(_SC_LEVEL2_CACHE_SIZE);
#elif defined(__APPLE__)
  int64_t bytes = 0;
  size_t length = sizeof(bytes);
  return sysctlbyname("hw.l2cachesize", &bytes, &length, nullptr, 0) == 0 ? bytes : 0;
#else
  return 0;
#endif
}

int64_t third_level_cache() {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  return sysconf(_SC_LEVEL3_CACHE_SIZE);
#else
  return 0;
#endif
}

int ceil_div(int64_t value, int64_t by) { return static_cast<int>((value + by - 1) / by); }

// Multiply-adds per pixel.
double products(const Network& network, const Layer& layer) {
  const double inputs = layer.inputs, lanes = layer.lanes();
  if (network.separable) return inputs * (9 + lanes);
  if (network.bfloat16) return layer.matrices_a_block() * 32 * lanes;
  if (layer.sources.empty()) return 9 * inputs * lanes;
  return inputs * lanes * kPoints / 16;
}

// Columns of the widest tile whose rows, with those of its margins, fit into the bytes.
int widest_tile(const Network& network, const Geometry& geometry, int64_t bytes) {
  const Rings rings(network, geometry);
  int64_t blocks = 0;
  for (size_t l = 0; l < network.layers.size(); ++l) {
    const Layer& layer = network.layers[l];
    blocks += rings.own[l] * layer.blocks + (layer.joint() ? rings.joint[l] * layer.widths[0] : 0);
  }
  const bool bfloat16 = network.bfloat16_features();
  const int64_t column = geometry.image_ring() * (12 + bfloat16 * 2 * kColorValues) + blocks * (bfloat16 ? 32 : 64);
  return std::max<int>(kLeastColumns, static_cast<int>(bytes / column) - 2 * geometry.margin[0]);
}

}  // namespace

int64_t ring_bytes(int threads) {
  static const int64_t own = second_level_cache(), common = third_level_cache();
  constexpr int64_t megabyte = 1 << 20;
  return own < megabyte ? std::clamp(common / threads, megabyte, 2 * megabyte)
                        : std::clamp(own / 8 * 7, megabyte, 4 * megabyte);
}

double tile_work(const Network& network, const Geometry& geometry, int rows, int columns, bool below, int sides) {
  double work = 0;
  for (size_t l = 0; l < network.layers.size(); ++l) {
    const double high = rows - (below ? kBandRows * geometry.first[l] : 0);
    work += products(network, network.layers[l]) * high * (columns + sides * geometry.margin[l]);
  }
  return work;
}

std::vector<PictureTile> plan_tiles(const Network& network, int height, int width, int threads, int64_t bytes) {
  const Geometry geometry(network);
  const int fewest = ceil_div(width, widest_tile(network, geometry, bytes));
  const int most = std::max(fewest, std::min(fewest + threads, width / kLeastColumns));
  int tile_height = 0, tile_width = 0;
  double least = 0;
  for (int across = fewest; across <= most; ++across) {
    const int columns = round_up(ceil_div(width, across), 4);
    const int highest = std::min(ceil_div(height, kBandRows), ceil_div(8 * threads, across));
    for (int down = 1; down <= highest; ++down) {
      const int rows = round_up(ceil_div(height, down), kBandRows);
      const int64_t tiles = int64_t{ceil_div(height, rows)} * ceil_div(width, columns);
      const double time = (ceil_div(tiles, threads) + (threads > 1 ? kWaiting : 0)) *
                          tile_work(network, geometry, rows, columns, down > 1, std::min(across - 1, 2));
      if (tile_height == 0 || time < least) least = time, tile_height = rows, tile_width = columns;
    }
  }
  std::vector<PictureTile> tiles;
  for (int y = 0; y < height; y += tile_height) {
    for (int x = 0; x < width; x += tile_width) {
      tiles.push_back({y, std::min(height, y + tile_height), x, std::min(width, x + tile_width)});
    }
  }
  return tiles;
}

}  // namespace zdce
