// A whole network on a picture, fused, and the packing of its weights.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <atomic>
#include <exception>
#include <mutex>

#include "engine/pack.h"
#include "engine/pass.h"

namespace zdce {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using namespace engine;

// Bytes of feature rows that a tile may take: with weights and scratch they stay in a 2 MB second-level cache.
constexpr int64_t kRingBytes = 1 << 20;

void check(bool holds, const char* message) {
  if (!holds) throw std::runtime_error(std::string("zdce: ") + message);
}

const float* floats(const Tensor& tensor, int64_t length, const char* name) {
  check(tensor.scalar_type() == ScalarType::Float && tensor.is_contiguous() && tensor.dim() == 1, name);
  check(tensor.numel() == length, name);
  return static_cast<const float*>(tensor.data_ptr());
}

Network network_of(const Tensor& plan) {
  check(plan.scalar_type() == ScalarType::Long && plan.is_contiguous() && plan.dim() == 1, "plan must be int64 (N,)");
  return read_plan(static_cast<const int64_t*>(plan.data_ptr()), plan.numel());
}

Element element_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Byte:
      return Element::kUint8;
    case ScalarType::UInt16:
      return Element::kUint16;
    case ScalarType::Float:
      return Element::kFloat;
    default:
      throw std::runtime_error("zdce: pictures must be uint8, uint16 or float32");
  }
}

// plan: (N,); gives the length of the packed weights.
int64_t packed_size(const Tensor plan) { return packed_floats(network_of(plan)); }

// parameters: (P,), all of the network's in order; packed: (packed_size(plan),), written.
void pack_network(const Tensor parameters, const Tensor plan, const Tensor packed) {
  const Network network = network_of(plan);
  const float* const from = floats(parameters, parameter_floats(network), "parameters must be those of the plan");
  floats(packed, packed_floats(network), "packed must be as long as packed_size says");
  pack(network, from, static_cast<float*>(packed.data_ptr()));
}

std::vector<Tile> tiles_of(const Network& network, const Geometry& geometry, int height, int width, int threads) {
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
  std::vector<Tile> tiles;
  for (int y = 0; y < height; y += tile_height) {
    for (int x = 0; x < width; x += tile_width) {
      tiles.push_back({y, std::min(height, y + tile_height), x, std::min(width, x + tile_width)});
    }
  }
  return tiles;
}

// picture: (H, W, 3), uint8, uint16 or float32, with any strides. result: written; as picture, or with `maps` the curve
// maps (C, H, W), float32. plan: (N,); packed: as pack_network gives it.
void run_network(const Tensor picture, const Tensor plan, const Tensor packed, double strength, bool maps,
                 const Tensor result) {
  Network network = network_of(plan);
  place_weights(network, floats(packed, packed_floats(network), "packed must be as long as packed_size says"));
  check(!network.brain || can_run_bfloat16(), "bfloat16 needs a processor with AMX");
  check(picture.dim() == 3 && picture.size(2) == 3, "picture must be (H, W, 3)");
  const int64_t height = picture.size(0), width = picture.size(1);
  check(height > 0 && width > 0 && height < (1 << 28) && width < (1 << 28),
        "picture must have pixels, and sides below 2^28");
  const int channels = maps ? network.maps : 3, y = maps ? 1 : 0, c = maps ? 0 : 2;
  check(result.dim() == 3 && result.size(y) == height && result.size(y + 1) == width && result.size(c) == channels,
        "result must be (H, W, 3), or (C, H, W) for maps");
  check(!maps || result.scalar_type() == ScalarType::Float, "maps must be float32");
  const Picture from{picture.data_ptr(), element_of(picture), static_cast<int>(height), static_cast<int>(width),
                     picture.stride(0),  picture.stride(1),   picture.stride(2)};
  const Target to{
      result.data_ptr(),    element_of(result), maps, channels, static_cast<float>(strength), result.stride(y),
      result.stride(y + 1), result.stride(c)};
  const Geometry geometry(network);
  const int threads = static_cast<int>(torch::stable::get_num_threads());
  const std::vector<Tile> tiles =
      tiles_of(network, geometry, static_cast<int>(height), static_cast<int>(width), threads);
  const Isa best = isa();
  std::atomic<size_t> next{0};
  torch::stable::parallel_for(0, std::min<int64_t>(threads, tiles.size()), 1, [&](int64_t begin, int64_t end) {
    thread_local Workspace workspace;
    for (int64_t worker = begin; worker < end; ++worker) {
      for (size_t i; (i = next++) < tiles.size();) {
        if (network.brain_features()) {
          Pass<Brain>(network, geometry, best, from, to, tiles[i], workspace).run();
        } else {
          Pass<float>(network, geometry, best, from, to, tiles[i], workspace).run();
        }
      }
    }
  });
}

}  // namespace
}  // namespace zdce

STABLE_TORCH_LIBRARY_IMPL(zdce_cpp, CPU, m) {
  m.impl("packed_size", TORCH_BOX(&zdce::packed_size));
  m.impl("pack_network", TORCH_BOX(&zdce::pack_network));
  m.impl("run_network", TORCH_BOX(&zdce::run_network));
}
