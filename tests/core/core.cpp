// The core without torch or Python, for sanitizers, other processors and other systems: networks of every kind, the
// curve, the objective and a picture's noise against plain loops in double, every instruction set that the processor
// has; every tiling must give the same bits. Buffers have exactly the size that is needed.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "../../csrc/core/kernels.h"
#include "../../csrc/core/operations.h"
#include "../../csrc/core/pack.h"
#include "../../csrc/core/parallel.h"
#include "../../csrc/core/tile_plan.h"
#include "checks.h"

namespace {

using namespace zdce;

template <class A, class B>
double mean_gap(const A& a, const B& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return a.size() == b.size() ? std::sqrt(sum / static_cast<double>(a.size())) : HUGE_VAL;
}

// As bfloat16 keeps it.
double in_bfloat16(double value) { return widen<double>(rounded(static_cast<float>(value))); }

Planes planes_of(std::vector<float>& data, int64_t batch, int64_t channels, int64_t height, int64_t width) {
  Planes planes = contiguous_maps(data.data(), channels, height, width);
  planes.batch = batch;
  return planes;
}

// Networks.

struct Case {
  const char* name;
  std::vector<int64_t> plan;
};

struct Packed {
  Network network;
  std::vector<float> parameters;
  Workspace memory;

  explicit Packed(const Case& c) : network(read_plan(c.plan.data(), static_cast<int64_t>(c.plan.size()))) {
    fill(numbers(static_cast<size_t>(parameter_floats(network)), -0.3f, 0.3f, 1));
  }

  void fill(const std::vector<float>& values) {
    parameters = values;
    Offsets offsets;
    offsets.take(packed_floats(network));
    float* const to = memory.take(offsets);
    pack(network, parameters.data(), to);
    place_weights(network, to);
  }
};

struct Size {
  int height, width;
};
constexpr Size kSizes[] = {{1, 1}, {2, 3}, {5, 70}, {37, 21}, {18, 150}};

// Colours of a picture (H, W, 3), of 8 bits.
std::vector<uint8_t> picture_of(Size size) {
  std::mt19937 random(2);
  std::vector<uint8_t> pixels(static_cast<size_t>(size.height) * size.width * 3);
  for (uint8_t& value : pixels) value = static_cast<uint8_t>(random() % 256);
  return pixels;
}

template <class S>
constexpr Element kElement = sizeof(S) == 1   ? Element::kUint8
                             : sizeof(S) == 2 ? Element::kUint16
                                              : Element::kFloat;

// pixels: (H, W, 3), uint8_t or float.
template <class S, class P>
std::vector<S> enhanced(const Network& network, Isa isa, Size size, std::vector<P> pixels, bool maps, int down,
                        int across) {
  const int height = size.height, width = size.width;
  const int channels = maps ? network.maps : 3;
  const size_t count = static_cast<size_t>(height) * width * channels;
  std::unique_ptr<S[]> result(new S[count]());
  const Picture from{pixels.data(), kElement<P>, height, width, width * 3, 3, 1};
  const Picture to{result.get(),
                   kElement<S>,
                   height,
                   width,
                   maps ? width : width * 3,
                   maps ? 1 : 3,
                   maps ? int64_t{height} * width : 1};
  const NetworkResult written{to, maps, channels, maps ? 1.0f : 1.5f};
  const Geometry geometry(network);
  Workspace workspace;
  for (int y = 0; y < height; y += down) {
    for (int x = 0; x < width; x += across) {
      const PictureTile tile{y, std::min(height, y + down), x, std::min(width, x + across)};
      kernels(isa).run_network_tile(network, geometry, from, written, tile, workspace);
    }
  }
  return std::vector<S>(result.get(), result.get() + count);
}

// The curve maps of a picture, layer by layer in double, of weights and feature maps rounded as the network says.
template <class P>
std::vector<double> reference_maps(const Packed& packed, Size size, const std::vector<P>& picture) {
  const int height = size.height, width = size.width;
  const int64_t pixels = int64_t{height} * width;
  std::vector<std::vector<double>> features(1, std::vector<double>(picture.size()));
  for (int64_t i = 0; i < pixels; ++i) {
    for (int c = 0; c < 3; ++c) features[0][c * pixels + i] = picture[3 * i + c] / (sizeof(P) == 1 ? 255.0 : 1.0);
  }
  const float* weight = packed.parameters.data();
  bool bfloat16 = false;  // of this layer's products: not the first one's
  const auto kept = [&](double value) { return bfloat16 ? in_bfloat16(value) : value; };
  const auto convolved = [&](const std::vector<double>& from, int64_t channel, const auto& filter, int64_t i) {
    double sum = 0;
    const int64_t y = i / width, x = i % width;
    for (int tap = 0; tap < 9; ++tap) {
      const int64_t v = y + tap / 3 - 1, u = x + tap % 3 - 1;
      if (v >= 0 && v < height && u >= 0 && u < width) sum += filter[tap] * from[channel * pixels + v * width + u];
    }
    return sum;
  };
  for (const Layer& layer : packed.network.layers) {
    bfloat16 = packed.network.bfloat16 && !layer.sources.empty();
    std::vector<double> inputs;
    if (layer.sources.empty()) inputs = features[0];
    for (const int source : layer.sources) {
      inputs.insert(inputs.end(), features[source + 1].begin(), features[source + 1].end());
    }
    const int64_t channels = static_cast<int64_t>(inputs.size()) / pixels;
    std::vector<double> outputs(static_cast<size_t>(layer.outputs * pixels));
    if (packed.network.separable) {
      const float *const bias = weight + 9 * channels, *const filters = bias + channels;
      std::vector<double> between(inputs.size());
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t i = 0; i < pixels; ++i)
          between[c * pixels + i] = kept(bias[c] + convolved(inputs, c, weight + 9 * c, i));
      }
      for (int64_t o = 0; o < layer.outputs; ++o) {
        for (int64_t i = 0; i < pixels; ++i) {
          double& to = outputs[o * pixels + i] = filters[layer.outputs * channels + o];
          for (int64_t c = 0; c < channels; ++c) to += kept(filters[o * channels + c]) * between[c * pixels + i];
        }
      }
      weight = filters + layer.outputs * channels + layer.outputs;
    } else {
      std::vector<double> filters(weight, weight + 9 * channels * layer.outputs);
      for (double& value : filters) value = kept(value);
      // The first layer's colours and weights are each the sum of two, of which the small ones don't meet.
      std::vector<double> colors, rests;
      if (packed.network.bfloat16_features() && layer.sources.empty()) {
        for (double& value : filters) {
          rests.push_back(in_bfloat16(value - in_bfloat16(value)));
          value = in_bfloat16(value);
        }
        for (double& value : inputs) {
          colors.push_back(in_bfloat16(value));
          value = colors.back() + in_bfloat16(value - colors.back());
        }
      }
      for (int64_t o = 0; o < layer.outputs; ++o) {
        for (int64_t i = 0; i < pixels; ++i) {
          double& to = outputs[o * pixels + i] = weight[9 * channels * layer.outputs + o];
          for (int64_t c = 0; c < channels; ++c) {
            to += convolved(inputs, c, &filters[9 * (o * channels + c)], i);
            if (!colors.empty()) to += convolved(colors, c, &rests[9 * (o * channels + c)], i);
          }
        }
      }
      weight += (9 * channels + 1) * layer.outputs;
    }
    const bool last = &layer == &packed.network.layers.back();
    const bool rounds = packed.network.bfloat16_features();
    for (double& value : outputs) {
      const double rectified = std::max(0.0, value);  // 0 of NaN
      value = last ? std::tanh(value) : rounds ? in_bfloat16(rectified) : rectified;
    }
    features.push_back(outputs);
  }
  return features.back();
}

void check_network(const Case& c, Isa isa) {
  const Packed packed(c);
  const bool bfloat16 = packed.network.bfloat16;
  for (const Size size : kSizes) {
    const std::vector<uint8_t> picture = picture_of(size);
    const auto whole = enhanced<float>(packed.network, isa, size, picture, true, 1024, 1024);
    const std::vector<double> exact = reference_maps(packed, size, picture);
    const double gap = bfloat16 ? mean_gap(whole, exact) : largest_gap(whole, exact);
    // Winograd's rounding over five layers, of sums of some 300 products. In bfloat16 some sums fall to another side of
    // a step of 2^-8 than exact ones, which later layers see: seldom, so that the mean stays small.
    expect(gap < (bfloat16 ? 1e-3 : 2e-5), c.name, isa, gap);
    expect(whole == enhanced<float>(packed.network, isa, size, picture, true, 8, 20), "maps in tiles", isa, 1);
    expect(enhanced<uint8_t>(packed.network, isa, size, picture, false, 1024, 1024) ==
               enhanced<uint8_t>(packed.network, isa, size, picture, false, 4, 1024),
           "pixels in strips", isa, 1);
  }
}

// A pixel that is no number makes 0 of the first layer's features around it, and of no others.
void check_no_number(Isa isa, int64_t bfloat16) {
  const Packed packed({"no number", {0, bfloat16, 1, 2, 16, 1, 0, 3, 1, 1}});
  const Size size{9, 40};
  for (const int at : {0, 39, 4 * 40 + 15, 4 * 40 + 16, 4 * 40 + 17, 9 * 40 - 1}) {
    std::vector<float> picture = numbers(3 * 9 * 40, 0, 1, 8);
    for (int c = 0; c < 3; ++c) picture[3 * at + c] = NAN;
    const auto maps = enhanced<float>(packed.network, isa, size, picture, true, 1024, 1024);
    const double gap = mean_gap(maps, reference_maps(packed, size, picture));
    expect(gap < (bfloat16 == 1 ? 1e-3 : 2e-5), "no number", isa, gap);  // as in check_network
  }
}

// tanh of logits that are the last layer's bias, in steps of 0.004.
void check_tangent(Isa isa, int64_t bfloat16) {
  constexpr int maps = 48, most = 1968;  // a multiple of 48
  Packed packed({"tanh", {0, bfloat16, maps / 3, 2, 16, 1, 0, maps, 1, 1}});
  std::vector<float> parameters(packed.parameters.size(), 0);
  double worst = 0;
  for (int i = -most; i < most; i += maps) {
    float* const bias = parameters.data() + parameters.size() - maps;
    for (int k = 0; k < maps; ++k) bias[k] = static_cast<float>(i + k) / 250;
    packed.fill(parameters);
    const auto got = enhanced<float>(packed.network, isa, {1, 1}, std::vector<float>(3, 0.5f), true, 4, 4);
    for (int k = 0; k < maps; ++k) worst = std::max(worst, std::abs(got[k] - std::tanh(double{bias[k]})));
  }
  // A fraction in float32; on AMX the table of tangent_table.h.
  expect(worst < (bfloat16 == 1 ? 3e-5 : 1e-6), "tanh", isa, worst);
}

// The curve and the objective. image: (1, 3, height, width), maps: (1, 3 T, height, width).

double curve(const std::vector<float>& image, const std::vector<double>& maps, int iterations, int64_t at,
             int64_t pixels) {
  double x = image[at];
  for (int t = 0; t < iterations; ++t) {
    const double a = maps[3 * t * pixels + at];
    x += a * (x * x - x);
  }
  return x;
}

void check_curve(Isa isa, Size size) {
  constexpr int iterations = 8;
  const int64_t pixels = int64_t{size.height} * size.width;
  std::vector<float> image = numbers(3 * pixels, 0, 1, 3), maps = numbers(3 * iterations * pixels, -1, 1, 4);
  std::vector<float> got(image.size(), NAN), grad(image.size(), 1), grad_image(image.size(), NAN);
  std::vector<float> grad_maps(maps.size(), NAN);
  const std::vector<double> exact(maps.begin(), maps.end());
  const auto planes = [&](std::vector<float>& data) {
    return planes_of(data, 1, static_cast<int64_t>(data.size()) / pixels, 1, pixels);
  };
  kernels(isa).apply_curve(planes(image), planes(maps), iterations, planes(got));
  std::vector<double> wanted(image.size()), slopes(image.size());
  for (int64_t i = 0; i < 3 * pixels; ++i) {
    wanted[i] = curve(image, exact, iterations, i, pixels);
    double x = image[i], slope = 1;
    for (int t = 0; t < iterations; ++t) {
      const double a = maps[3 * t * pixels + i];
      slope *= 1 + a * (2 * x - 1), x += a * (x * x - x);
    }
    slopes[i] = slope;
  }
  // Each step rounds three times and multiplies the error so far by its slope, at most 2.
  const double gap = largest_gap(got, wanted);
  expect(gap <= 3 * 255 * 0x1p-25, "curve", isa, gap);
  const Planes to_image = planes(grad_image), to_maps = planes(grad_maps);
  kernels(isa).apply_curve_backward(planes(grad), planes(image), planes(maps), iterations, &to_image, &to_maps);
  const double slope_gap = largest_gap(grad_image, slopes);
  expect(slope_gap < 1e-3, "curve's gradient of the image", isa, slope_gap);
  expect(std::all_of(grad_maps.begin(), grad_maps.end(), [](float g) { return std::isfinite(g); }),
         "curve's gradient of the maps", isa, NAN);
}

void check_objective(Isa isa, Size size) {
  constexpr int iterations = 4;
  const int height = size.height, width = size.width;
  const int64_t pixels = int64_t{height} * width, regions = int64_t{height / 4} * (width / 4);
  std::vector<float> image = numbers(3 * pixels, 0, 1, 5), logits = numbers(3 * iterations * pixels, -2, 2, 6);
  std::vector<double> maps(logits.begin(), logits.end());
  for (double& map : maps) map = std::tanh(map);
  std::vector<double> channels(3), sums(2), region(regions), gaps(regions);
  for (int64_t i = 0; i < 3 * pixels; ++i) {
    const int64_t y = i % pixels / width, x = i % pixels % width;
    const double enhanced = curve(image, maps, iterations, i, pixels);
    channels[i / pixels] += enhanced / static_cast<double>(pixels);
    if (y / 4 >= height / 4 || x / 4 >= width / 4) continue;
    const int64_t at = y / 4 * (width / 4) + x / 4;
    region[at] += enhanced / 48, gaps[at] += (enhanced - image[i]) / 48;
  }
  for (int64_t i = 0; i < 3 * iterations * pixels; ++i) {
    if (i % pixels >= width) sums[0] += std::pow(maps[i] - maps[i - width], 2);
    if (i % width > 0) sums[1] += std::pow(maps[i] - maps[i - 1], 2);
  }
  std::vector<float> got_region(regions, NAN), got_gaps(regions, NAN), got_channels(3, NAN), got_sums(2, NAN);
  kernels(isa).objective_statistics(planes_of(image, 1, 3, height, width),
                                    planes_of(logits, 1, 3 * iterations, height, width), iterations, got_region.data(),
                                    got_gaps.data(), got_channels.data(), got_sums.data());
  expect(largest_gap(got_region, region) < 1e-6, "region means", isa, largest_gap(got_region, region));
  expect(largest_gap(got_gaps, gaps) < 1e-6, "gaps of region means", isa, largest_gap(got_gaps, gaps));
  expect(largest_gap(got_channels, channels) < 1e-6, "channel means", isa, largest_gap(got_channels, channels));
  const double scale = 1 + std::max(sums[0], sums[1]), gap = largest_gap(got_sums, sums) / scale;
  expect(gap < 1e-6, "squared differences", isa, gap);
}

// Noise and grain of a picture, against plain loops in double: noise that grows from top to bottom, on black and white
// columns too.
template <class P>
void check_noise(int64_t height, int64_t width, bool planar) {
  const double level = kWhite<P> / 255.0;
  const std::vector<float> noise = numbers(3 * height * width, -1, 1, 8);
  std::vector<P> pixels(noise.size());
  const Picture picture{pixels.data(),
                        kElement<P>,
                        height,
                        width,
                        planar ? width : 3 * width,
                        planar ? 1 : 3,
                        planar ? height * width : 1};
  const auto pixel = [&](int64_t y, int64_t x, int64_t c) -> P& {
    return pixels[y * picture.row_stride + x * picture.column_stride + c * picture.channel_stride];
  };
  for (int64_t i = 0; i < height * width * 3; ++i) {
    const int64_t y = i / 3 / width, x = i / 3 % width;
    const double amplitude = 3 + 6 * static_cast<double>(y) / static_cast<double>(height);
    const double clean = 300 * static_cast<double>(x) / static_cast<double>(width) - 20;
    pixel(y, x, i % 3) = static_cast<P>(std::clamp(clean + amplitude * noise[i], 0.0, 255.0) * level);
  }
  std::vector<std::array<double, 2>> blocks;  // finest details, and others
  const int64_t down = std::max<int64_t>(16, (height - 16) / 19), across = std::max<int64_t>(16, (width - 16) / 19);
  for (int64_t top = 0; top + 16 <= height; top += down) {
    for (int64_t left = 0; left + 16 <= width; left += across) {
      double sum = 0, most = 0, finest = 0, others = 0;
      for (int64_t i = 0; i < 3 * 64; ++i) {
        const int64_t y = top + i / 3 / 8 * 2, x = left + i / 3 % 8 * 2;
        double of[4];
        for (int64_t k = 0; k < 4; ++k) {
          of[k] = pixel(y + k / 2, x + k % 2, i % 3) / level;
          sum += of[k], most = std::max(most, of[k]);
        }
        finest += std::pow(of[0] - of[1] - of[2] + of[3], 2) / 4 / 192;
        others += (std::pow(of[0] - of[1] + of[2] - of[3], 2) + std::pow(of[0] + of[1] - of[2] - of[3], 2)) / 8 / 192;
      }
      if (sum / 768 > 4 && most < 250) blocks.push_back({finest, others});
    }
  }
  std::sort(blocks.begin(), blocks.end());
  const size_t flat = std::max<size_t>(8, blocks.size() / 5);
  double finest = 0, others = 0;
  for (size_t i = 0; i < flat && blocks.size() >= flat; ++i) finest += blocks[i][0], others += blocks[i][1];
  const std::array<double, 2> wanted{std::sqrt(std::max(0.0, 2 * finest - others) / static_cast<double>(flat)),
                                     std::sqrt(finest / static_cast<double>(flat))};
  const NoiseLevels found = measure_noise(picture);
  const double gap = largest_gap(std::array<double, 2>{found.noise, found.grain}, wanted);
  expect(gap < 1e-4, "noise", Isa::kDefault, gap);
  const bool enough = height >= 64 && width >= 64;
  expect(enough ? found.noise > 1 && found.grain > 1 : found.noise == 0 && found.grain == 0, "noise that is there",
         Isa::kDefault, found.noise);
}

// Whole pictures on threads: every number of threads must give the same bits.
void check_threads(const Case& c) {
  const Packed packed(c);
  const std::vector<float> pixels = numbers(3 * 200 * 333, 0, 1, 7);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3, 5, 8, 16, 33, 64}) {
    set_own_number(threads);
    std::vector<float>& result = results.emplace_back(pixels.size(), NAN);
    run_network(packed.network, {const_cast<float*>(pixels.data()), Element::kFloat, 200, 333, 999, 3, 1}, 1, false,
                {result.data(), Element::kFloat, 200, 333, 999, 3, 1});
    expect(results[0] == result, "threads", isa(), threads);
  }
  set_own_number(0);
}

// The work of one thread without any margin, over that of all threads until the last is through.
double efficiency(const Network& network, Size size, int threads) {
  const Geometry geometry(network);
  std::vector<double> busy(threads, 0);
  for (const PictureTile& tile : plan_tiles(network, size.height, size.width, threads, 2 << 20)) {
    *std::min_element(busy.begin(), busy.end()) +=
        tile_work(network, geometry, tile.bottom - tile.top, tile.right - tile.left, tile.top > 0,
                  (tile.left > 0) + (tile.right < size.width));
  }
  return tile_work(network, geometry, size.height, size.width, false, 0) /
         (threads * *std::max_element(busy.begin(), busy.end()));
}

// Tiles are a grid of whole fours that covers each pixel once, and leave no thread without work for long.
void check_plan(const Case& c) {
  const Packed packed(c);
  const Network& network = packed.network;
  for (const Size size : {Size{1, 1}, Size{3, 5000}, Size{5000, 3}, Size{37, 149}, Size{480, 640}, Size{900, 1200}}) {
    for (const int threads : {1, 2, 7, 64, 128}) {
      std::vector<int> covered(static_cast<size_t>(size.height) * size.width, 0);
      bool fours = true;
      for (const PictureTile& tile : plan_tiles(network, size.height, size.width, threads, 1 << 20)) {
        fours = fours && tile.top % 4 == 0 && tile.left % 4 == 0;
        for (int y = tile.top; y < tile.bottom; ++y) {
          for (int x = tile.left; x < tile.right; ++x) ++covered[static_cast<size_t>(y) * size.width + x];
        }
      }
      const bool once = std::all_of(covered.begin(), covered.end(), [](int times) { return times == 1; });
      expect(fours && once, "plan", isa(), threads);
    }
  }
  for (const int threads : {1, 2, 4, 8, 16, 32, 64}) {
    const double share = efficiency(network, {2160, 3840}, threads);
    expect(share > 0.85 && share <= 1, "efficiency", isa(), share);
  }
}

void check_errors_of_parts() {
  bool caught = false;
  set_own_number(4);
  try {
    parallel_for(100, 1, [](int64_t begin, int64_t) {
      if (begin > 0) throw std::bad_alloc();
    });
  } catch (const std::bad_alloc&) {
    caught = true;
  }
  set_own_number(0);
  expect(caught, "no memory in a thread", isa(), 1);
}

// Each number goes to one thread, whatever their number and that of a part.
void check_supply() {
  for (const int threads : {1, 3, 8}) {
    for (const int64_t part : {1, 7, 300}) {
      set_own_number(threads);
      std::vector<std::atomic<int>> taken(200);
      parallel_supply(200, part, [&](Supply& supply) {
        for (int64_t begin, end; supply.take(begin, end);) {
          for (int64_t i = begin; i < end; ++i) ++taken[static_cast<size_t>(i)];
        }
      });
      const bool once = std::all_of(taken.begin(), taken.end(), [](const auto& times) { return times == 1; });
      expect(once, "supply", isa(), threads);
    }
  }
  set_own_number(0);
}

}  // namespace

int main() {
  std::vector<Case> cases = {
      {"base", {0, 0, 8, 5, 16, 1, 0, 16, 1, 1, 16, 1, 2, 16, 2, 3, 2, 24, 2, 4, 1}},
      {"shared maps, 20 channels", {0, 0, 8, 3, 20, 1, 0, 20, 1, 1, 3, 2, 2, 1}},
      {"separable", {1, 0, 8, 3, 32, 1, 0, 32, 1, 1, 3, 2, 2, 1}},
      {"separable bfloat16", {1, 1, 8, 3, 40, 1, 0, 20, 1, 1, 3, 2, 2, 1}},
      {"bfloat16", {0, 1, 8, 5, 16, 1, 0, 16, 1, 1, 16, 1, 2, 16, 2, 3, 2, 24, 2, 4, 1}},
      {"bfloat16, 2 and 3 blocks", {0, 1, 8, 4, 32, 1, 0, 20, 1, 1, 40, 2, 1, 2, 24, 2, 3, 1}},
      {"bfloat16, shared maps", {0, 1, 8, 3, 20, 1, 0, 20, 1, 1, 3, 2, 2, 1}},
      {"bfloat16, sources of 1 and 2 blocks apart", {0, 1, 12, 4, 16, 1, 0, 32, 1, 1, 16, 2, 1, 2, 36, 3, 2, 3, 2}},
      {"a layer that none reads", {0, 0, 8, 4, 16, 1, 0, 16, 1, 1, 16, 1, 1, 24, 1, 3}},
      {"bfloat16, a layer that none reads", {0, 1, 8, 4, 16, 1, 0, 16, 1, 1, 16, 1, 1, 24, 1, 3}},
  };
  // Sources of 1 and 3 blocks, one of them twice, and 48 outputs; in bfloat16 these sources lie side by side.
  for (const int64_t separable : {0, 1}) {
    for (const int64_t bfloat16 : {0, 1}) {
      cases.push_back({"unequal sources, one twice",
                       {separable, bfloat16, 16, 4, 16, 1, 0, 48, 1, 1, 16, 3, 1, 2, 1, 48, 2, 3, 3}});
    }
  }
  int sets = 0;
  for (const Isa set : {Isa::kDefault, Isa::kNeon, Isa::kAvx2, Isa::kAvx512}) {
    if (!supported(set)) continue;
    ++sets;
    const int64_t most = set == isa() && can_run_bfloat16() ? 1 : 0;
    for (const Case& c : cases) {
      if (c.plan[1] <= most) check_network(c, set);
    }
    for (int64_t bfloat16 = 0; bfloat16 <= most; ++bfloat16) {
      check_no_number(set, bfloat16);
      check_tangent(set, bfloat16);
    }
    for (const Size size : kSizes) {
      check_curve(set, size);
      check_objective(set, size);
    }
  }
  for (const bool planar : {false, true}) {
    for (const auto& [height, width] :
         std::vector<std::pair<int64_t, int64_t>>{{15, 90}, {40, 50}, {97, 131}, {350, 400}}) {
      check_noise<uint8_t>(height, width, planar);
      check_noise<uint16_t>(height, width, planar);
      check_noise<float>(height, width, planar);
    }
  }
  check_threads(cases[0]);
  check_plan(cases[0]);
  check_plan(cases[4]);
  check_errors_of_parts();
  check_supply();
  std::printf("%d checks on %d sets of instructions, %s bfloat16, %d failures\n", checks, sets,
              can_run_bfloat16() ? "with" : "without", failed);
  return failed == 0 ? 0 : 1;
}
