// The kernels of training without torch, for sanitizers and other processors: convolutions forward and back, in float
// and on the matrix unit where there is one, and the losses' statistics, the objective of them and their gradients,
// against plain loops in double. Every number of threads must give the same bits. Tensors have exactly the memory that
// they need.

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../../csrc/core/kernels.h"
#include "../../csrc/core/parallel.h"
#include "checks.h"

namespace {

using namespace zdce;

enum class Layout { kPlanes, kChannelsLast, kCrop };  // kCrop: planes, in wider rows

struct Shape {
  int64_t batch, channels, height, width;

  size_t count() const { return static_cast<size_t>(batch * channels * height * width); }
};

// A tensor, which ends with its last element. Values are those of (B, C, H, W).
class Tensor {
 public:
  Tensor(const Shape& s, Element element, Layout layout) : shape_(s) {
    const int64_t bytes = bytes_of(element), row = s.width + (layout == Layout::kCrop ? 5 : 0);
    const bool last = layout == Layout::kChannelsLast;
    planes_ = {nullptr,
               element,
               s.batch,
               s.channels,
               s.height,
               s.width,
               s.channels * s.height * row * bytes,
               last ? bytes : s.height * row * bytes,
               (last ? s.channels : 1) * row * bytes,
               (last ? s.channels : 1) * bytes};
    const int64_t size =
        address(planes_, s.batch - 1, s.channels - 1, s.height - 1, s.width - 1) + bytes - planes_.data;
    memory_.reset(new char[size]);
    std::memset(memory_.get(), 0xff, size);  // NaN in every type
    planes_.data = memory_.get();
  }

  Tensor(const Shape& shape, Element element, Layout layout, const std::vector<double>& values)
      : Tensor(shape, element, layout) {
    size_t i = 0;
    each([&](char* at) {
      const double value = values[i++];
      with_element(planes_.element, [&](auto kind) {
        const auto kept = Narrow<decltype(kind)>::from(value);
        std::memcpy(at, &kept, sizeof(kept));
      });
    });
  }

  const Planes& planes() const { return planes_; }

  std::vector<double> values() const {
    std::vector<double> all;
    each([&](char* at) {
      with_element(planes_.element, [&](auto kind) {
        std::memcpy(&kind, at, sizeof(kind));
        all.push_back(widen<double>(kind));
      });
    });
    return all;
  }

 private:
  template <class F>
  void each(const F& f) const {
    for (int64_t b = 0; b < shape_.batch; ++b) {
      for (int64_t c = 0; c < shape_.channels; ++c) {
        for (int64_t y = 0; y < shape_.height; ++y) {
          for (int64_t x = 0; x < shape_.width; ++x) f(address(planes_, b, c, y, x));
        }
      }
    }
  }

  Shape shape_;
  Planes planes_;
  std::unique_ptr<char[]> memory_;
};

// Multiples of 1/64 from -1 to 1, which bfloat16 has too.
std::vector<double> drawn(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<double> all(count);
  for (double& one : all) one = (static_cast<double>(random() % 129) - 64) / 64;
  return all;
}

// Of the largest true value.
double error(const std::vector<double>& got, const std::vector<double>& truth) {
  double most = 1e-30;
  for (const double value : truth) most = std::max(most, std::abs(value));
  return largest_gap(got, truth) / most;
}

std::vector<double> doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

// Convolutions.

struct Problem {
  std::vector<int64_t> channels;  // of each source
  int64_t outputs, batch, height, width;

  int64_t inputs() const { return std::accumulate(channels.begin(), channels.end(), int64_t{0}); }
  int64_t pixels() const { return height * width; }
  Shape shape(int64_t of) const { return {batch, of, height, width}; }
};

// Calls f(b, o, i, tap, output pixel, input pixel) for every product of a convolution.
template <class F>
void each_product(const Problem& p, const F& f) {
  const int64_t inputs = p.inputs();
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t o = 0; o < p.outputs; ++o) {
      for (int64_t i = 0; i < inputs; ++i) {
        const int64_t weight = (o * inputs + i) * 9, to = (b * p.outputs + o) * p.pixels(),
                      from = (b * inputs + i) * p.pixels();
        for (int tap = 0; tap < 9; ++tap) {
          const int64_t dy = tap / 3 - 1, dx = tap % 3 - 1;
          for (int64_t y = std::max<int64_t>(0, -dy); y < p.height - std::max<int64_t>(0, dy); ++y) {
            for (int64_t x = std::max<int64_t>(0, -dx); x < p.width - std::max<int64_t>(0, dx); ++x) {
              f(weight + tap, to + y * p.width + x, from + (y + dy) * p.width + x + dx);
            }
          }
        }
      }
    }
  }
}

struct Variant {
  const char* name;
  Element sources, result;
  Layout layout;
  bool rectified, first_wanted, parameters;
};

constexpr Variant kVariants[] = {
    {"planes of float", Element::kFloat, Element::kFloat, Layout::kPlanes, false, true, true},
    {"channels_last float", Element::kFloat, Element::kFloat, Layout::kChannelsLast, true, true, true},
    {"channels_last bfloat16", Element::kBFloat16, Element::kBFloat16, Layout::kChannelsLast, true, true, true},
    {"cropped bfloat16 to float", Element::kBFloat16, Element::kFloat, Layout::kCrop, true, false, true},
    {"float to planes of bfloat16", Element::kFloat, Element::kBFloat16, Layout::kPlanes, true, true, false},
};

// The sources' share of a concatenated tensor's values.
std::vector<double> source_values(const Problem& p, const std::vector<double>& all, size_t source) {
  const int64_t before = std::accumulate(p.channels.begin(), p.channels.begin() + source, int64_t{0});
  std::vector<double> own;
  for (int64_t b = 0; b < p.batch; ++b) {
    const auto from = all.begin() + (b * p.inputs() + before) * p.pixels();
    own.insert(own.end(), from, from + p.channels[source] * p.pixels());
  }
  return own;
}

struct Gradients {
  std::vector<double> sources, weight, bias;
};

class ConvolutionCase {
 public:
  explicit ConvolutionCase(const Problem& p)
      : p_(p),
        x_(drawn(p.shape(p.inputs()).count(), 1)),
        weight_(drawn(p.outputs * p.inputs() * 9, 2)),
        bias_(drawn(p.outputs, 3)),
        grad_(drawn(p.shape(p.outputs).count(), 4)),
        forward_(p.shape(p.outputs).count()) {
    for (size_t i = 0; i < forward_.size(); ++i) forward_[i] = bias_[i / p.pixels() % p.outputs];
    each_product(p, [&](int64_t w, int64_t to, int64_t from) { forward_[to] += weight_[w] * x_[from]; });
  }

  // Values within float's rounding, ten times what direct sums lose: Winograd's transforms make of each value a sum of
  // some 20 larger ones and back. bfloat16 keeps 8 bits.
  void check(const Variant& v, Products products) const {
    const std::vector<float> weight(weight_.begin(), weight_.end()), bias(bias_.begin(), bias_.end());
    std::vector<Tensor> tensors, grads;
    Features sources, grad_sources;
    for (size_t s = 0; s < p_.channels.size(); ++s) {
      const Shape shape = p_.shape(p_.channels[s]);
      tensors.emplace_back(shape, v.sources, v.layout, source_values(p_, x_, s));
      grads.emplace_back(shape, v.sources, v.layout);
      sources.push_back(tensors.back().planes());
      grad_sources.push_back(wanted(v, s) ? grads.back().planes() : Planes{});
    }
    const Shape shape = p_.shape(p_.outputs);
    const Tensor result(shape, v.result, v.layout), grad(shape, v.result, v.layout, grad_);
    convolution(sources, weight.data(), bias.data(), v.rectified, products, result.planes());
    const std::vector<double> output = result.values();
    std::vector<double> truth = forward_;
    if (v.rectified) {
      for (double& value : truth) value = std::max(value, 0.0);
    }
    compare(output, truth, v.result, v.name);

    std::vector<float> grad_weight(v.parameters ? weight.size() : 0, NAN),
        grad_bias(v.parameters ? bias.size() : 0, NAN);
    convolution_backward(grad.planes(), sources, weight.data(), v.rectified ? &result.planes() : nullptr, products,
                         grad_sources, v.parameters ? grad_weight.data() : nullptr,
                         v.parameters ? grad_bias.data() : nullptr);
    const Gradients exact = gradients(v.rectified ? &output : nullptr);
    for (size_t s = 0; s < grads.size(); ++s) {
      if (wanted(v, s)) compare(grads[s].values(), source_values(p_, exact.sources, s), v.sources, v.name);
    }
    if (!v.parameters) return;
    compare(doubles(grad_weight), exact.weight, Element::kFloat, v.name);
    compare(doubles(grad_bias), exact.bias, Element::kFloat, v.name);
  }

  // All bits that come out, on so many threads.
  std::vector<std::vector<double>> bits(int threads, Products products) const {
    set_own_number(threads);
    const std::vector<float> weight(weight_.begin(), weight_.end()), bias(bias_.begin(), bias_.end());
    const Tensor source(p_.shape(p_.inputs()), Element::kFloat, Layout::kChannelsLast, x_),
        grad_source(p_.shape(p_.inputs()), Element::kFloat, Layout::kChannelsLast),
        grad(p_.shape(p_.outputs), Element::kFloat, Layout::kPlanes, grad_),
        result(p_.shape(p_.outputs), Element::kFloat, Layout::kPlanes);
    std::vector<float> grad_weight(weight.size(), NAN), grad_bias(bias.size(), NAN);
    convolution({source.planes()}, weight.data(), bias.data(), true, products, result.planes());
    convolution_backward(grad.planes(), {source.planes()}, weight.data(), &result.planes(), products,
                         {grad_source.planes()}, grad_weight.data(), grad_bias.data());
    set_own_number(0);
    return {result.values(), grad_source.values(), doubles(grad_weight), doubles(grad_bias)};
  }

 private:
  bool wanted(const Variant& v, size_t source) const { return v.first_wanted || source > 0 || p_.channels.size() == 1; }

  Gradients gradients(const std::vector<double>* output) const {
    std::vector<double> slopes = grad_;
    for (size_t i = 0; output != nullptr && i < slopes.size(); ++i) slopes[i] = (*output)[i] > 0 ? slopes[i] : 0;
    Gradients exact{std::vector<double>(x_.size()), std::vector<double>(weight_.size()),
                    std::vector<double>(bias_.size())};
    each_product(p_, [&](int64_t w, int64_t to, int64_t from) {
      exact.sources[from] += weight_[w] * slopes[to];
      exact.weight[w] += x_[from] * slopes[to];
    });
    for (size_t i = 0; i < slopes.size(); ++i) exact.bias[i / p_.pixels() % p_.outputs] += slopes[i];
    return exact;
  }

  static void compare(const std::vector<double>& got, const std::vector<double>& truth, Element kept,
                      const char* name) {
    const double off = error(got, truth);
    expect(off < (kept == Element::kBFloat16 ? 0x1p-8 : 5e-6), name, isa(), off);
  }

  Problem p_;
  std::vector<double> x_, weight_, bias_, grad_, forward_;
};

std::vector<Products> available_products() {
  std::vector<Products> all{Products::kFloat};
  if (kernels().matrix_convolution != nullptr && can_run_bfloat16()) all.push_back(Products::kBFloat16);
  return all;
}

void check_convolutions() {
  for (const auto& [channels, outputs] : std::vector<std::pair<std::vector<int64_t>, int64_t>>{
           {{3}, 16}, {{16}, 24}, {{16, 16}, 24}, {{20, 7}, 12}, {{32}, 40}, {{1}, 1}}) {
    for (const auto& [batch, height, width] :
         std::vector<std::array<int64_t, 3>>{{2, 1, 1}, {2, 5, 7}, {1, 67, 6}, {1, 9, 261}}) {
      const ConvolutionCase c({channels, outputs, batch, height, width});
      for (const Products products : available_products()) {
        for (const Variant& v : kVariants) c.check(v, products);
      }
    }
  }
}

// More regions than there are sums of gradients, so that some of these have two.
void check_threads() {
  const ConvolutionCase c({{20}, 24, 70, 5, 9});
  for (const Products products : available_products()) {
    const auto one = c.bits(1, products);
    for (const int threads : {2, 3, 5, 8, 16, 33, 64}) {
      expect(one == c.bits(threads, products), "threads of a convolution", isa(), threads);
    }
  }
}

template <class F>
void expect_refusal(const char* message, const F& f) {
  std::string said;
  try {
    f();
  } catch (const std::exception& error) {
    said = error.what();
  }
  expect(said == message, message, isa(), 1);
}

void check_refusals() {
  const Tensor some({1, 3, 4, 4}, Element::kFloat, Layout::kPlanes);
  Planes none = some.planes();
  none.channels = 0;
  const float parameters[9 * 9 + 3] = {};
  const auto forward = [&](const Planes& source, const Planes& result) {
    convolution({source}, parameters, parameters, false, Products::kFloat, result);
  };
  const auto backward = [&](const Planes& grad, const Planes& source) {
    convolution_backward(grad, {source}, parameters, nullptr, Products::kFloat, {Planes{}}, nullptr, nullptr);
  };
  expect_refusal("zdce: sources must have at least one channel", [&] { forward(none, some.planes()); });
  expect_refusal("zdce: result must have at least one channel", [&] { forward(some.planes(), none); });
  expect_refusal("zdce: sources must have at least one channel", [&] { backward(some.planes(), none); });
  expect_refusal("zdce: grad must have at least one channel", [&] { backward(none, some.planes()); });
}

// Statistics and their gradients, written in the tensors' type where it is double, else in float.

template <class C>
std::vector<double> statistic(size_t count, const std::function<void(void*)>& write) {
  std::vector<C> values(count, NAN);
  write(values.data());
  return {values.begin(), values.end()};
}

std::vector<double> statistic(Element element, size_t count, const std::function<void(void*)>& write) {
  return element == Element::kDouble ? statistic<double>(count, write) : statistic<float>(count, write);
}

// Calls f with values in the type of statistics.
template <class F>
void with_statistic(Element element, const std::vector<double>& values, const F& f) {
  if (element == Element::kDouble) return f(static_cast<const void*>(values.data()));
  const std::vector<float> narrow(values.begin(), values.end());
  f(static_cast<const void*>(narrow.data()));
}

struct Kept {
  const char* name;
  Element element;
  Layout layout;
  double tolerance;  // of the gradients; statistics are float or double
};

constexpr Kept kKept[] = {
    {"planes of float", Element::kFloat, Layout::kPlanes, 2e-6},
    {"channels_last bfloat16", Element::kBFloat16, Layout::kChannelsLast, 0x1p-8},
    {"cropped float16", Element::kHalf, Layout::kCrop, 0x1p-10},
    {"channels_last double", Element::kDouble, Layout::kChannelsLast, 1e-13},
};

class StatisticsCase {
 public:
  StatisticsCase(Isa isa, const Kept& kept, int64_t batch, int64_t height, int64_t width)
      : isa_(isa), kept_(kept), s_{batch, 3, height, width}, x_(drawn(s_.count(), 5)), y_(drawn(s_.count(), 6)) {}

  void check() const {
    channel_means();
    for (const int64_t region : {1, 3, 4, 16, 19}) {
      const Grid grid(s_, region);
      region_means(grid);
      contrast(grid);
    }
    tv_sums();
  }

 private:
  struct Grid {
    int64_t region, batch, down, across;

    Grid(const Shape& s, int64_t side) : region(side), batch(s.batch), down(s.height / side), across(s.width / side) {}
    size_t count() const { return static_cast<size_t>(batch * down * across); }
  };

  const Kernels& set() const { return kernels(isa_); }
  Tensor kept(const std::vector<double>& values) const { return {s_, kept_.element, kept_.layout, values}; }
  double rounding() const { return kept_.element == Element::kDouble ? 1e-13 : 2e-6; }

  // Compares a gradient that `write` writes.
  template <class F>
  void gradient(const char* what, const std::vector<double>& truth, const F& write) const {
    const Tensor grad(s_, kept_.element, kept_.layout);
    write(grad.planes());
    const double off = error(grad.values(), truth);
    expect(off <= kept_.tolerance, (std::string(what) + "' gradient, " + kept_.name).c_str(), isa_, off);
  }

  void value(const char* what, const std::vector<double>& got, const std::vector<double>& truth) const {
    // Of sums of values up to 1.
    const double off = largest_gap(got, truth);
    expect(off <= rounding(), (std::string(what) + ", " + kept_.name).c_str(), isa_, off);
  }

  int64_t pixels() const { return s_.height * s_.width; }

  // Calls f(index of the region, index of the value) for every value in a whole region.
  template <class F>
  void each_in_region(const Grid& grid, const F& f) const {
    for (size_t i = 0; i < s_.count(); ++i) {
      const int64_t at = static_cast<int64_t>(i), y = at % pixels() / s_.width / grid.region,
                    x = at % s_.width / grid.region;
      if (y < grid.down && x < grid.across) f((at / (3 * pixels()) * grid.down + y) * grid.across + x, at);
    }
  }

  std::vector<double> means(const Grid& grid, const std::vector<double>& x) const {
    std::vector<double> all(grid.count());
    const double count = 3.0 * static_cast<double>(grid.region * grid.region);
    each_in_region(grid, [&](int64_t r, int64_t i) { all[r] += x[i] / count; });
    return all;
  }

  std::vector<double> spread(const Grid& grid, const std::vector<double>& slopes) const {
    std::vector<double> all(s_.count());
    const double count = 3.0 * static_cast<double>(grid.region * grid.region);
    each_in_region(grid, [&](int64_t r, int64_t i) { all[i] = slopes[r] / count; });
    return all;
  }

  void channel_means() const {
    const Tensor x = kept(x_);
    std::vector<double> truth(s_.batch * 3), slopes = drawn(truth.size(), 7), exact(s_.count());
    for (size_t i = 0; i < s_.count(); ++i) {
      truth[i / pixels()] += x_[i] / static_cast<double>(pixels());
      exact[i] = slopes[i / pixels()] / static_cast<double>(pixels());
    }
    value("channel means",
          statistic(kept_.element, truth.size(), [&](void* to) { set().channel_means(x.planes(), to); }), truth);
    with_statistic(kept_.element, slopes, [&](const void* from) {
      gradient("channel means", exact, [&](const Planes& to) { set().channel_means_backward(from, to); });
    });
  }

  void region_means(const Grid& grid) const {
    const Tensor x = kept(x_);
    const auto write = [&](void* to) { set().region_means(x.planes(), grid.region, to); };
    value("region means", statistic(kept_.element, grid.count(), write), means(grid, x_));
    const std::vector<double> slopes = drawn(grid.count(), 8);
    with_statistic(kept_.element, slopes, [&](const void* from) {
      gradient("region means", spread(grid, slopes),
               [&](const Planes& to) { set().region_means_backward(from, grid.region, to); });
    });
  }

  // The change of contrast and its derivatives by the gaps, with every pair from both sides.
  static double change(const Grid& grid, const std::vector<double>& gaps, std::vector<double>& slopes) {
    double sum = 0;
    const double count = static_cast<double>(std::max<size_t>(grid.count(), 1));
    for (int64_t r = 0; r < static_cast<int64_t>(grid.count()); ++r) {
      const int64_t y = r / grid.across % grid.down, x = r % grid.across;
      const auto pair = [&](bool inside, int64_t other) {
        const double d = gaps[r] - (inside ? gaps[other] : 0);
        sum += d * d / count, slopes[r] += 2 * d / count;
        if (inside) slopes[other] -= 2 * d / count;
      };
      pair(y > 0, r - grid.across), pair(y + 1 < grid.down, r + grid.across);
      pair(x > 0, r - 1), pair(x + 1 < grid.across, r + 1);
    }
    return sum;
  }

  void contrast(const Grid& grid) const {
    const Tensor x = kept(x_), y = kept(y_);
    std::vector<double> truth = means(grid, x_), slopes(grid.count()), others = drawn(grid.count(), 9), found;
    const std::vector<double> image = means(grid, y_);
    for (size_t r = 0; r < truth.size(); ++r) truth[r] -= image[r];
    const double loss = change(grid, truth, slopes);
    const auto gaps = statistic(kept_.element, grid.count(), [&](void* to) {
      found = statistic(kept_.element, 1,
                        [&](void* sum) { set().region_contrast(x.planes(), y.planes(), grid.region, sum, to); });
    });
    value("gaps of regions", gaps, truth);
    expect(std::abs(found[0] - loss) <= 10 * rounding() * std::max(loss, 1.0), "contrast of regions", isa_,
           found[0] - loss);
    constexpr double kGrad = 0.75;
    for (size_t r = 0; r < slopes.size(); ++r) slopes[r] = kGrad * slopes[r] + others[r] / 8;
    for (double& other : others) other /= 8;
    with_statistic(kept_.element, {kGrad}, [&](const void* grad) {
      with_statistic(kept_.element, truth, [&](const void* from) {
        with_statistic(kept_.element, others, [&](const void* added) {
          gradient("gaps of regions", spread(grid, slopes), [&](const Planes& to) {
            set().region_contrast_backward(kept_.element == Element::kDouble, grad, from, added, grid.region, to);
          });
        });
      });
    });
  }

  void tv_sums() const {
    const Tensor x = kept(x_);
    std::vector<double> truth(2), exact(s_.count());
    const std::vector<double> slopes{0.5, -0.25};
    const auto pair = [&](int direction, size_t here, size_t before) {
      const double d = x_[here] - x_[before];
      truth[direction] += d * d;
      exact[here] += 2 * d * slopes[direction], exact[before] -= 2 * d * slopes[direction];
    };
    for (size_t i = 0; i < s_.count(); ++i) {
      if (static_cast<int64_t>(i) % pixels() >= s_.width) pair(0, i, i - s_.width);
      if (static_cast<int64_t>(i) % s_.width > 0) pair(1, i, i - 1);
    }
    const auto got = statistic(kept_.element, 2, [&](void* to) { set().tv_sums(x.planes(), to); });
    const double off = error(got, truth);
    expect(truth[0] + truth[1] == 0 ? got == truth : off <= rounding(), "squared differences", isa_, off);
    with_statistic(kept_.element, slopes, [&](const void* from) {
      gradient("squared differences", exact, [&](const Planes& to) { set().tv_sums_backward(from, x.planes(), to); });
    });
  }

  Isa isa_;
  Kept kept_;
  Shape s_;
  std::vector<double> x_, y_;
};

// The statistics' pass back in the objective; their pass forward is core.cpp's.
void check_objective(Isa set, int64_t batch, int64_t height, int64_t width, int iterations, bool shared,
                     Layout layout) {
  const Shape image{batch, 3, height, width}, maps{batch, shared ? 3 : 3 * int64_t{iterations}, height, width};
  const int64_t pixels = height * width, down = height / 4, across = width / 4;
  std::vector<double> x = drawn(image.count(), 10);
  for (double& value : x) value = std::abs(value);
  const std::vector<double> logits = drawn(maps.count(), 11), regions = drawn(batch * down * across, 12),
                            channels = drawn(3 * batch, 13), tv{0.5, 0.25};
  std::vector<double> a(logits.size()), exact(logits.size());
  for (size_t i = 0; i < a.size(); ++i) a[i] = std::tanh(logits[i]);
  for (int64_t i = 0; i < static_cast<int64_t>(image.count()); ++i) {
    const int64_t b = i / (3 * pixels), c = i / pixels % 3, at = i % pixels, y = at / width / 4, v = at % width / 4;
    const auto map = [&](int t) { return ((b * maps.channels) + (shared ? 0 : 3 * t) + c) * pixels + at; };
    double slope = channels[3 * b + c] / static_cast<double>(pixels);
    if (y < down && v < across) slope += regions[(b * down + y) * across + v] / 48;
    std::vector<double> steps{x[i]};
    for (int t = 0; t < iterations; ++t) steps.push_back(steps[t] + a[map(t)] * (steps[t] * steps[t] - steps[t]));
    for (int t = iterations - 1; t >= 0; --t) {
      exact[map(t)] += slope * (steps[t] * steps[t] - steps[t]);
      slope *= 1 + a[map(t)] * (2 * steps[t] - 1);
    }
  }
  const std::vector<double> before = a;
  for (int64_t i = 0; i < static_cast<int64_t>(a.size()); ++i) {
    const auto pair = [&](int64_t other, double weight) {
      const double d = 2 * weight * (before[i] - before[other]);
      exact[i] += d, exact[other] -= d;
    };
    if (i % pixels >= width) pair(i - width, tv[0]);
    if (i % width > 0) pair(i - 1, tv[1]);
  }
  for (size_t i = 0; i < a.size(); ++i) exact[i] *= 1 - a[i] * a[i];
  const Tensor from(image, Element::kFloat, layout, x), through(maps, Element::kFloat, layout, logits),
      grad(maps, Element::kFloat, layout);
  with_statistic(Element::kFloat, regions, [&](const void* r) {
    with_statistic(Element::kFloat, channels, [&](const void* c) {
      with_statistic(Element::kFloat, tv, [&](const void* t) {
        kernels(set).objective_statistics_backward(r, c, t, from.planes(), through.planes(), iterations, grad.planes());
      });
    });
  });
  const double off = error(grad.values(), exact);
  expect(off < 1e-5, "gradient of the objective's statistics", set, off);
}

// The objective of its statistics.

struct ObjectiveCase {
  int64_t batch, down, across;  // of regions
  std::vector<double> regions, gaps, channels, tv;

  // Terms by their definition, and the total before them.
  std::vector<double> terms() const {
    double spatial = 0, color = 0, exposure = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const auto gap = [&](int64_t y, int64_t x) {
        return y < 0 || x < 0 || y >= down || x >= across ? 0.0 : gaps[(b * down + y) * across + x];
      };
      for (int64_t y = 0; y < down; ++y) {
        for (int64_t x = 0; x < across; ++x) {
          for (const double other : {gap(y - 1, x), gap(y + 1, x), gap(y, x - 1), gap(y, x + 1)}) {
            spatial += std::pow(gap(y, x) - other, 2);
          }
        }
      }
      for (int64_t square = 0; square < squares() / batch; ++square) {
        const int64_t y = square / (across / 4) * 4, x = square % (across / 4) * 4;
        double mean = 0;
        for (int64_t i = 0; i < 16; ++i) mean += regions[(b * down + y + i / 4) * across + x + i % 4] / 16;
        exposure += std::pow(mean - kSettings.target, 2);
      }
      for (int64_t c = 0; c < 3; ++c) color += std::pow(channels[3 * b + c] - channels[3 * b + (c + 1) % 3], 2);
    }
    const double illumination = kSettings.along_y * tv[0] + kSettings.along_x * tv[1];
    spatial /= static_cast<double>(std::max<int64_t>(1, batch * down * across));
    exposure /= static_cast<double>(std::max<int64_t>(1, squares()));
    color /= std::sqrt(2) * static_cast<double>(batch);
    const double total = kSettings.illumination * illumination + kSettings.spatial * spatial + kSettings.color * color +
                         kSettings.exposure * exposure;
    return {total, illumination, spatial, color, exposure};
  }

  int64_t squares() const { return batch * (down / 4) * (across / 4); }

  static constexpr ObjectiveSettings kSettings{0.25, 0.5, 3, 0.5, 2, 1.5, 0.625};
};

// Of scalars with these gradients; NaN stands for none, which counts as 0. Each term is at most quadratic in every
// statistic, so that central differences of any width are exact.
std::vector<double> exact_gradient(ObjectiveCase c, const std::vector<double>& grads) {
  const auto weighted = [&] {
    const std::vector<double> terms = c.terms();
    double sum = 0;
    for (size_t i = 0; i < terms.size(); ++i) sum += std::isnan(grads[i]) ? 0 : grads[i] * terms[i];
    return sum;
  };
  std::vector<double> exact;
  const auto slope = [&](double& one, double* other) {
    constexpr double width = 8;
    const auto move = [&](double by) {
      one += by;
      if (other != nullptr) *other += by;
    };
    move(width);
    const double above = weighted();
    move(-2 * width);
    exact.push_back((above - weighted()) / (2 * width));
    move(width);
  };
  // A region's gap is its mean less another picture's.
  for (size_t i = 0; i < c.regions.size(); ++i) slope(c.regions[i], &c.gaps[i]);
  for (double& mean : c.channels) slope(mean, nullptr);
  for (double& sum : c.tv) slope(sum, nullptr);
  return exact;
}

template <class C>
void check_objective_of_statistics(Isa set, int64_t batch, int64_t down, int64_t across) {
  constexpr bool wide = std::is_same_v<C, double>;
  constexpr double rounding = wide ? 1e-11 : 2e-6;
  const size_t count = batch * down * across;
  const ObjectiveCase c{batch, down, across, drawn(count, 14), drawn(count, 15), drawn(3 * batch, 16), {0.5, 0.75}};
  const auto kept = [](const std::vector<double>& values) { return std::vector<C>(values.begin(), values.end()); };
  const std::vector<C> regions = kept(c.regions), gaps = kept(c.gaps), channels = kept(c.channels), tv = kept(c.tv);
  std::vector<C> got(kObjectiveScalars, NAN);
  void* const scalars[] = {&got[0], &got[1], &got[2], &got[3], &got[4]};
  kernels(set).objective(wide, c.kSettings, {batch, down, across}, regions.data(), gaps.data(), channels.data(),
                         tv.data(), scalars);
  const double off = error({got.begin(), got.end()}, c.terms());
  expect(off <= rounding, "objective", set, off);
  for (const std::vector<double>& grads :
       std::vector<std::vector<double>>{{0.5, NAN, -1, 0.25, NAN}, {NAN, 2, NAN, NAN, -0.5}}) {
    const std::vector<C> given = kept(grads);
    const void* from[kObjectiveScalars];
    for (int i = 0; i < kObjectiveScalars; ++i) from[i] = std::isnan(grads[i]) ? nullptr : &given[i];
    std::vector<C> grad_regions(count, NAN), grad_channels(3 * batch, NAN), grad_tv(2, NAN);
    kernels(set).objective_backward(wide, c.kSettings, {batch, down, across}, from, regions.data(), gaps.data(),
                                    channels.data(), grad_regions.data(), grad_channels.data(), grad_tv.data());
    std::vector<double> all(grad_regions.begin(), grad_regions.end());
    all.insert(all.end(), grad_channels.begin(), grad_channels.end());
    all.insert(all.end(), grad_tv.begin(), grad_tv.end());
    const double gap = error(all, exact_gradient(c, grads));
    expect(gap <= rounding, "objective's gradient of its statistics", set, gap);
  }
}

}  // namespace

int main() {
  int sets = 0;
  for (const Isa set : {Isa::kDefault, Isa::kNeon, Isa::kAvx2, Isa::kAvx512}) {
    if (!supported(set)) continue;
    ++sets;
    for (const Kept& kept : kKept) {
      for (const auto& [batch, height, width] :
           std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {2, 4, 4}, {2, 7, 34}, {1, 37, 53}, {1, 17, 1030}}) {
        StatisticsCase(set, kept, batch, height, width).check();
      }
    }
    check_objective(set, 2, 17, 31, 8, false, Layout::kPlanes);
    check_objective(set, 1, 70, 21, 3, true, Layout::kChannelsLast);
    check_objective(set, 1, 5, 1030, 2, false, Layout::kCrop);
    for (const auto& [batch, down, across] :
         std::vector<std::array<int64_t, 3>>{{1, 0, 2}, {2, 1, 1}, {2, 9, 21}, {1, 8, 12}, {1, 4, 70}}) {
      check_objective_of_statistics<float>(set, batch, down, across);
      check_objective_of_statistics<double>(set, batch, down, across);
    }
  }
  check_convolutions();
  check_threads();
  check_refusals();
  std::printf(
      "%d checks, statistics on %d sets of instructions, convolutions on %s %s bfloat16 products, %d failures\n",
      checks, sets, isa_name(isa()), available_products().size() > 1 ? "with" : "without", failed);
  return failed == 0 ? 0 : 1;
}
