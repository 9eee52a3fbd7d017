// A whole network on a picture, fused.

#include <algorithm>
#include <vector>

#include "check.h"
#include "kernels.h"
#include "operations.h"
#include "parallel.h"
#include "tile_plan.h"

namespace zdce {
namespace {

void check_pictures(const Network& network, const Picture& picture, const Picture& result) {
  check_precision(network);
  check(picture.height > 0 && picture.width > 0 && picture.height < kSideLimit && picture.width < kSideLimit,
        "picture must have pixels, and sides below 2^28");
  check(result.height == picture.height && result.width == picture.width, "result must be as large as picture");
}

Workspace& workspace() {
  thread_local Workspace own;
  return own;
}

}  // namespace

void check_precision(const Network& network) {
  check(!network.bfloat16 || can_run_bfloat16(), "bfloat16 needs a processor with AMX (x86-64) or BF16 (Arm)");
}

void run_network(const Network& network, const Picture& picture, double strength, bool maps, const Picture& result) {
  check_pictures(network, picture, result);
  check(!maps || result.element == Element::kFloat, "maps must be float32");
  const NetworkResult to{result, maps, maps ? network.maps : 3, static_cast<float>(std::clamp(strength, -1e30, 1e30))};
  const Geometry geometry(network);
  const std::vector<PictureTile> tiles =
      plan_tiles(network, static_cast<int>(picture.height), static_cast<int>(picture.width), max_threads());
  const Kernels& set = kernels();
  parallel_supply(static_cast<int64_t>(tiles.size()), 1, [&](Supply& supply) {
    for (int64_t i, end; supply.take(i, end);) {
      set.run_network_tile(network, geometry, picture, to, tiles[i], workspace());
    }
  });
}

void run_network_tile(const Network& network, const Picture& picture, const PictureTile& tile, const Picture& result) {
  check_pictures(network, picture, result);
  check(tile.top >= 0 && tile.top < tile.bottom && tile.bottom <= picture.height && tile.top % kBandRows == 0 &&
            tile.left >= 0 && tile.left < tile.right && tile.right <= picture.width && tile.left % 4 == 0,
        "tile must lie in the picture, and begin at multiples of 4");
  kernels().run_network_tile(network, Geometry(network), picture, {result, false, 3, 1.0f}, tile, workspace());
}

}  // namespace zdce
