// Runs the CUDA kernels without torch, for the sanitizers: every kernel, on buffers of exactly the size they need,
// packed and strided. That their results are right the tests know; here the two ways must agree, and equal inputs give
// equal bits.
//
//   cuda_sanitize          all kernels; exit code 0 where all is well
//   cuda_sanitize race     a kernel with a race between two warps, which ThreadSanitizer must report

#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "cuda_on_host.cpp"

namespace {

// (B, C, H, W) in its own allocation, filled with NaN.
struct Tensor {
  int64_t channels, height, width;
  size_t bytes;
  std::unique_ptr<char[]> memory;
  Planes planes;

  Tensor(Type type, int64_t b, int64_t c, int64_t h, int64_t w, bool channels_last)
      : channels(c), height(h), width(w), bytes(b * c * h * w * (type == Type::kFloat ? 4 : 2)) {
    memory.reset(new char[bytes]);
    std::memset(memory.get(), 0xff, bytes);
    planes = {memory.get(),         type, c * h * w, channels_last ? 1 : h * w, channels_last ? w * c : w,
              channels_last ? c : 1};
  }

  int64_t at(int64_t b, int64_t c, int64_t y, int64_t x) const {
    return b * planes.batch + c * planes.channel + y * planes.row + x * planes.pixel;
  }
  float get(int64_t i) const {
    if (planes.type == Type::kFloat) return reinterpret_cast<const float*>(memory.get())[i];
    if (planes.type == Type::kHalf) return __half2float(reinterpret_cast<const __half*>(memory.get())[i]);
    return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(memory.get())[i]);
  }
  void set(int64_t i, float x) {
    if (planes.type == Type::kFloat) reinterpret_cast<float*>(memory.get())[i] = x;
    if (planes.type == Type::kHalf) reinterpret_cast<__half*>(memory.get())[i] = __float2half_rn(x);
    if (planes.type == Type::kBFloat16) reinterpret_cast<__nv_bfloat16*>(memory.get())[i] = __float2bfloat16_rn(x);
  }
};

struct Case {
  Type image, maps;
  int64_t height, width;
  int iterations;
  bool shared;
};

constexpr int64_t kBatch = 2;

// Every output of every kernel, in NCHW order.
std::vector<float> run(const Case& c, bool channels_last) {
  const int64_t map_channels = c.shared ? 3 : 3 * c.iterations;
  const auto tensor = [&](Type type, int64_t channels, int64_t h, int64_t w) {
    return Tensor(type, kBatch, channels, h, w, channels_last);
  };
  Tensor image = tensor(c.image, 3, c.height, c.width), maps = tensor(c.maps, map_channels, c.height, c.width);
  Tensor grad = tensor(c.image, 3, c.height, c.width), enhanced = tensor(c.image, 3, c.height, c.width);
  Tensor grad_image = tensor(c.image, 3, c.height, c.width),
         grad_maps = tensor(c.maps, map_channels, c.height, c.width);
  const int64_t down = c.height / 4, across = c.width / 4;
  // Statistics are contiguous.
  Tensor regions(Type::kFloat, kBatch, 1, down, across, false), gaps(Type::kFloat, kBatch, 1, down, across, false);
  Tensor means(Type::kFloat, kBatch, 3, 1, 1, false), scalars(Type::kFloat, 1, 1, 1, 5, false);
  Tensor grads(Type::kFloat, 1, 1, 1, 5, false);
  Tensor grad_logits = tensor(c.maps, map_channels, c.height, c.width);

  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(0, 1);
  const auto fill = [&](Tensor& t, int64_t batch) {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t k = 0; k < t.channels; ++k)
        for (int64_t y = 0; y < t.height; ++y)
          for (int64_t x = 0; x < t.width; ++x)
            t.set(t.at(b, k, y, x), &t == &image ? uniform(random) : 2 * uniform(random) - 1);
  };
  for (Tensor* t : {&image, &maps, &grad}) fill(*t, kBatch);
  fill(grads, 1);

  // (B, C, P): a row of all pixels.
  const auto flat = [](const Tensor& t) {
    Planes planes = t.planes;
    planes.row = 0;
    return planes;
  };
  const CurveShape curve = {kBatch, c.height * c.width, c.iterations, c.shared};
  const Planes views[] = {flat(image), flat(maps), flat(enhanced), flat(grad), flat(grad_image), flat(grad_maps)};
  zdce_apply_curve(&views[0], &views[1], &views[2], &curve);
  zdce_apply_curve_backward(&views[3], &views[0], &views[1], &views[4], &views[5], &curve);

  const ObjectiveShape shape = {kBatch, c.height, c.width, c.iterations, c.shared};
  const auto floats = [](const Tensor& t) { return reinterpret_cast<float*>(t.memory.get()); };
  const ObjectiveSettings settings = {1, 2, 3, 4, 5, 6, 0.6f};
  ObjectiveForward forward = {image.planes, maps.planes, settings};
  ObjectiveBackward backward = {image.planes, maps.planes, grad_logits.planes, settings};
  for (int i = 0; i < zdce::kObjectiveScalars; ++i) {
    forward.scalars[i] = floats(scalars) + i, backward.grads[i] = floats(grads) + i;
  }
  backward.grads[2] = nullptr;
  backward.enhanced_regions = forward.enhanced_regions = floats(regions);
  backward.gaps = forward.gaps = floats(gaps);
  backward.channel_means = forward.channel_means = floats(means);
  zdce_objective(&forward, &shape);
  zdce_objective_backward(&backward, &shape);

  std::vector<float> all;
  const auto collect = [&](const Tensor& t, int64_t batch) {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t k = 0; k < t.channels; ++k)
        for (int64_t y = 0; y < t.height; ++y)
          for (int64_t x = 0; x < t.width; ++x) all.push_back(t.get(t.at(b, k, y, x)));
  };
  for (Tensor* t : {&enhanced, &grad_image, &grad_maps, &regions, &gaps, &means, &grad_logits}) {
    collect(*t, kBatch);
  }
  collect(scalars, 1);
  return all;
}

bool check(const Case& c) {
  const std::vector<float> packed = run(c, false), again = run(c, false), strided = run(c, true);
  if (std::memcmp(packed.data(), again.data(), packed.size() * sizeof(float)) != 0) {
    std::printf("%ldx%ld, T = %d: two runs differ\n", c.height, c.width, c.iterations);
    return false;
  }
  // The same sums in another order, stored in a half type at worst; the steps double rounding errors at most.
  for (size_t i = 0; i < packed.size(); ++i) {
    const float gap = std::fabs(packed[i] - strided[i]), scale = 1 + std::fabs(packed[i]);
    if (!(gap <= 1e-2f * scale)) {
      std::printf("%ldx%ld, T = %d: value %zu is %g packed and %g strided\n", c.height, c.width, c.iterations, i,
                  packed[i], strided[i]);
      return false;
    }
  }
  return true;
}

// The maps of a network of two layers and a skip connection, by many blocks and by few.
bool check_network(bool separable) {
  const std::vector<int64_t> plan = {separable, 0, 1, 3, 16, 1, 0, 16, 1, 1, 3, 2, 1, 2};
  constexpr int64_t height = 37, width = 29, maps = 3;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<uint8_t> picture(height * width * 3);
  for (uint8_t& value : picture) value = static_cast<uint8_t>(random());
  // 3: loaded ahead by the last layer
  std::vector<__nv_bfloat16> weights((separable ? 2 + 2 + 2 : 3 * 2 + 9 * 2 + 2 * 9 + 3) * 32 * 4);
  for (__nv_bfloat16& weight : weights) weight = __float2bfloat16_rn(0.1f * uniform(random));
  std::vector<float> biases(16 + 16 + 8 + (separable ? 4 * 160 : 0)), found[2];
  for (float& bias : biases) bias = uniform(random);
  NetworkJob job{};
  job.picture = {picture.data(), zdce::Element::kUint8, 0, 3 * width, 3, 1};
  job.weights = reinterpret_cast<const uint2*>(weights.data()), job.biases = biases.data();
  job.height = height, job.width = width, job.strength = 1, job.to_maps = true;
  for (int i = 0; i < 2; ++i) {
    found[i].assign(height * width * maps, NAN);
    job.result = {found[i].data(), zdce::Element::kFloat, 0, maps * width, maps, 1};
    const GpuLimits gpu = {i == 0 ? 1 : 1000, 30000, 31000};
    if (zdce_run_network(plan.data(), static_cast<int64_t>(plan.size()), &job, 1, false, &gpu) != 0) return false;
  }
  const bool same = std::memcmp(found[0].data(), found[1].data(), found[0].size() * sizeof(float)) == 0;
  const bool finite = std::all_of(found[0].begin(), found[0].end(), [](float map) { return std::fabs(map) <= 1; });
  if (!same || !finite) std::printf("the network's maps %s\n", same ? "are no numbers" : "depend on its blocks");
  return same && finite;
}

__global__ void racing(float* sums) {
  __shared__ float shared[64];
  shared[threadIdx.x] = 1;
  sums[threadIdx.x] = shared[63 - threadIdx.x];  // without __syncthreads
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "race") == 0) {
    std::vector<float> sums(64);
    Launch{}(racing, 1, 64, sums.data());
    return 0;
  }
  const Case cases[] = {
      {Type::kFloat, Type::kFloat, 1, 1, 8, false},         {Type::kFloat, Type::kFloat, 17, 31, 8, false},
      {Type::kFloat, Type::kFloat, 36, 136, 8, false},      {Type::kHalf, Type::kHalf, 36, 40, 8, false},
      {Type::kBFloat16, Type::kBFloat16, 9, 264, 8, false}, {Type::kFloat, Type::kBFloat16, 20, 24, 4, false},
      {Type::kBFloat16, Type::kFloat, 20, 24, 16, false},   {Type::kHalf, Type::kHalf, 20, 24, 16, false},
      {Type::kFloat, Type::kFloat, 37, 56, 8, true},        {Type::kHalf, Type::kFloat, 5, 7, 1, true},
      {Type::kBFloat16, Type::kHalf, 20, 24, 16, true},
  };
  int failed = 0;
  for (const Case& c : cases) failed += check(c) ? 0 : 1;
  if (!check_network(false) || !check_network(true)) return 1;
  std::printf("%zu passed, %d failed\n", std::size(cases) - failed, failed);
  return failed == 0 ? 0 : 1;
}
