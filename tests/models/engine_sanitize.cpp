// Runs the inference engine without torch, for the sanitizers: networks of every kind on pictures of awkward sizes, in
// buffers of exactly the size they need. That results are right the tests know; here every tiling must give the same
// bits.

#include <cstdio>
#include <memory>
#include <random>

#include "../../csrc/core/engine/pack.h"
#include "../../csrc/core/engine/pass.h"

namespace {

using namespace zdce;
using namespace zdce::engine;

struct Case {
  const char* name;
  std::vector<int64_t> plan;
};

// In memory of its own and aligned as the engine's weights are.
struct Packed {
  std::unique_ptr<float, decltype(&std::free)> memory{nullptr, &std::free};

  Packed(Network& network) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.1f);
    std::vector<float> parameters(parameter_floats(network));
    for (float& parameter : parameters) parameter = normal(random);
    memory.reset(static_cast<float*>(std::aligned_alloc(64, (packed_floats(network) * 4 + 63) / 64 * 64)));
    pack(network, parameters.data(), memory.get());
    place_weights(network, memory.get());
  }
};

template <class F, class S>
std::vector<S> enhanced(const Network& network, Isa isa, Element element, int height, int width, bool maps, int down,
                        int across, Workspace& workspace) {
  std::mt19937 random(2);
  std::unique_ptr<uint8_t[]> picture(new uint8_t[height * width * 3]);
  for (int i = 0; i < height * width * 3; ++i) picture[i] = random() % 256;
  const int channels = maps ? network.maps : 3;
  const size_t size = static_cast<size_t>(height) * width * channels;
  std::unique_ptr<S[]> result(new S[size]());
  const Picture from{picture.get(), Element::kUint8, height, width, width * 3, 3, 1};
  const Target to = maps ? Target{result.get(), element, true, channels, 1.0f, width, 1, int64_t{height} * width}
                         : Target{result.get(), element, false, channels, 1.5f, width * 3, 3, 1};
  const Geometry geometry(network);
  for (int y = 0; y < height; y += down) {
    for (int x = 0; x < width; x += across) {
      Pass<F>(network, geometry, isa, from, to, {y, std::min(height, y + down), x, std::min(width, x + across)},
              workspace)
          .run();
    }
  }
  return std::vector<S>(result.get(), result.get() + size);
}

template <class F>
int failures(const Case& c, Isa isa) {
  Network network = read_plan(c.plan.data(), static_cast<int64_t>(c.plan.size()));
  const Packed packed(network);
  Workspace workspace;
  int failed = 0;
  for (const auto& [height, width] : {std::pair{1, 1}, {2, 3}, {5, 70}, {37, 21}, {18, 150}}) {
    const auto whole = enhanced<F, float>(network, isa, Element::kFloat, height, width, true, 1024, 1024, workspace);
    const auto pieces = enhanced<F, float>(network, isa, Element::kFloat, height, width, true, 8, 20, workspace);
    const auto levels =
        enhanced<F, uint8_t>(network, isa, Element::kUint8, height, width, false, 1024, 1024, workspace);
    const auto strips = enhanced<F, uint8_t>(network, isa, Element::kUint8, height, width, false, 4, 1024, workspace);
    failed += whole != pieces || levels != strips;
  }
  if (failed > 0) std::fprintf(stderr, "%s, %s: %d sizes differ between tilings\n", c.name, isa_name(isa), failed);
  return failed;
}

}  // namespace

int main() {
  const std::vector<Case> cases = {
      {"base", {0, 0, 8, 5, 16, 1, 0, 16, 1, 1, 16, 1, 2, 16, 2, 3, 2, 24, 2, 4, 1}},
      {"shared maps, 20 channels", {0, 0, 8, 3, 20, 1, 0, 20, 1, 1, 3, 2, 2, 1}},
      {"separable", {1, 0, 8, 3, 32, 1, 0, 32, 1, 1, 3, 2, 2, 1}},
      {"separable bfloat16", {1, 1, 8, 3, 40, 1, 0, 20, 1, 1, 3, 2, 2, 1}},
      {"bfloat16", {0, 1, 8, 5, 16, 1, 0, 16, 1, 1, 16, 1, 2, 16, 2, 3, 2, 24, 2, 4, 1}},
      {"bfloat16, 2 and 3 blocks", {0, 1, 8, 4, 32, 1, 0, 20, 1, 1, 40, 2, 1, 2, 24, 2, 3, 1}},
  };
  int failed = 0, runs = 0;
  for (const Case& c : cases) {
    if (c.plan[1] == 1) {
      if (!can_run_bfloat16()) continue;
      failed += c.plan[0] == 1 ? failures<float>(c, Isa::kAvx512) : failures<Brain>(c, Isa::kAvx512), ++runs;
      continue;
    }
    for (int set = 0; set <= static_cast<int>(isa()); ++set)
      failed += failures<float>(c, static_cast<Isa>(set)), ++runs;
  }
  std::printf("%d runs, %d failures\n", runs, failed);
  return failed == 0 ? 0 : 1;
}
