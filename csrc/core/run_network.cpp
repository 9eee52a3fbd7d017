// A whole network on a picture, fused.

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels.h"
#include "operations.h"
#include "parallel.h"

namespace zdce {
namespace {

// Bytes of feature rows that a tile may take: with weights and scratch they stay in a 2 MB second-level cache.
constexpr int64_t kRingBytes = 1 << 20;

void check(bool holds, const char* message) {
  if (!holds) throw std::runtime_error(std::string("zdce: ") + message);
}

std::vector<PictureTile> tiles_of(const Network& network, const Geometry& geometry, int height, int width,
                                  int threads) {
  int64_t column = geometry.image_ring() * 12;
  for (size_t l = 0; l + 1 < network.layers.size(); ++l)
    column += geometry.ring[l] * network.layers[l].blocks * (network.brain_features() ? 32 : 64);
  const int widest = std::max<int>(64, static_cast<int>(kRingBytes / column) - 2 * geometry.margin[0]);
  const int across = (width + widest - 1) / widest, tile_width = round_up((width + across - 1) / across, 4);
  // A strip computes its first rows' surroundings anew, so strips are few and of 128 rows or more; but several threads
  // get a few tiles each, and all as many.
  int down = std::clamp((4 * (threads - 1) + across - 1) / across, 1, std::max(1, height / 128));
  while (across * down % threads != 0) ++down;
  down = std::min(down, (height + 3) / 4);
  const int tile_height = round_up((height + down - 1) / down, 4);
  std::vector<PictureTile> tiles;
  for (int y = 0; y < height; y += tile_height) {
    for (int x = 0; x < width; x += tile_width) {
      tiles.push_back({y, std::min(height, y + tile_height), x, std::min(width, x + tile_width)});
    }
  }
  return tiles;
}

}  // namespace

void run_network(const Network& network, const Picture& picture, double strength, bool maps, const Picture& result) {
  check(!network.brain || can_run_bfloat16(), "bfloat16 needs a processor with AMX");
  constexpr int64_t most = 1 << 28;
  check(picture.height > 0 && picture.width > 0 && picture.height < most && picture.width < most,
        "picture must have pixels, and sides below 2^28");
  check(result.height == picture.height && result.width == picture.width, "result must be as large as picture");
  check(!maps || result.element == Element::kFloat, "maps must be float32");
  const NetworkResult to{result, maps, maps ? network.maps : 3, static_cast<float>(strength)};
  const Geometry geometry(network);
  const int threads = max_threads();
  const std::vector<PictureTile> tiles =
      tiles_of(network, geometry, static_cast<int>(picture.height), static_cast<int>(picture.width), threads);
  const Kernels& set = kernels();
  std::atomic<size_t> next{0};
  parallel_for(std::min<int64_t>(threads, static_cast<int64_t>(tiles.size())), 1, [&](int64_t begin, int64_t end) {
    thread_local Workspace workspace;
    for (int64_t worker = begin; worker < end; ++worker) {
      for (size_t i; (i = next++) < tiles.size();) {
        set.run_network_tile(network, geometry, picture, to, tiles[i], workspace);
      }
    }
  });
}

}  // namespace zdce
