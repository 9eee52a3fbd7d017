// Files of weights: 8 bytes with the header's length, the header in JSON, and the tensors' bytes.

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "check.h"
#include "json.h"
#include "model.h"

namespace zdce {
namespace {

struct File {
  Json header;
  const char* data;
  int64_t size;
};

File open(const char* bytes, size_t size) {
  check(size >= 8, "a .safetensors file must have at least 8 bytes, got " + std::to_string(size));
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  check(length <= size - 8, "the header of the .safetensors file is longer than the file");
  return {parse_json({bytes + 8, static_cast<size_t>(length)}), bytes + 8 + length,
          static_cast<int64_t>(size - 8 - length)};
}

// Appends the values of one tensor, whose shape must be as expected.
void append(const File& file, const std::string& name, const std::vector<int64_t>& shape, std::vector<float>& to) {
  const Json& tensor = file.header.at(name);
  check(tensor.at("dtype").text() == "F32", name + " must be float32");
  const std::vector<Json>&sides = tensor.at("shape").list(), &offsets = tensor.at("data_offsets").list();
  bool fits = sides.size() == shape.size() && offsets.size() == 2;
  int64_t values = 1;
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    fits = sides[i].integer(0, int64_t{1} << 40) == shape[i];
    values *= shape[i];
  }
  check(fits, name + " does not have the shape that the variant says");
  const int64_t begin = offsets[0].integer(0, file.size), end = offsets[1].integer(begin, file.size);
  check(end - begin == 4 * values, name + " does not have as many bytes as its shape says");
  const size_t before = to.size();
  to.resize(before + static_cast<size_t>(values));
  std::memcpy(to.data() + before, file.data + begin, static_cast<size_t>(end - begin));
  // Subnormal weights of dead filters make convolutions 30 times slower and change no result.
  for (size_t i = before; i < to.size(); ++i) {
    if (std::abs(to[i]) < std::numeric_limits<float>::min()) to[i] = 0;
  }
}

// The fields of a variant that determine the network and its use; zdce/models/variants.py describes them.
struct Variant {
  std::vector<std::vector<int64_t>> sources;
  std::vector<int64_t> outputs;
  int64_t iterations;
  bool separable, guided;
  Settings settings;
};

Variant read_variant(const Json& values) {
  constexpr int64_t most_channels = int64_t{kMaxInputBlocks} * kBlock;
  Variant variant;
  variant.iterations = values.at("iterations").integer(1, kMaxIterations);
  variant.separable = values.at("separable").flag();
  const int64_t filters = values.at("filters").integer(1, most_channels);
  for (const Json& layer : values.at("sources").list()) {
    std::vector<int64_t> sources;
    for (const Json& source : layer.list()) sources.push_back(source.integer(0, kMaxLayers));
    variant.sources.push_back(sources);
    variant.outputs.push_back(filters);
  }
  check(!variant.sources.empty(), "a variant must have layers");
  variant.outputs.back() = values.at("shared_maps").flag() ? 3 : 3 * variant.iterations;
  variant.settings.scale = values.at("scale").integer(1, kMaxScale);
  const Json* const guided = values.find("guided");
  variant.guided = guided != nullptr && guided->flag();
  const Json* const formula = values.find("formula");
  check(formula == nullptr || formula->text() == "curve",
        "the variant's formula must be curve; others run in PyTorch alone");
  const auto below = [&](const char* name, int limit) {
    const Json* const found = values.find(name);
    const double value = found == nullptr ? 0 : found->real();
    check(value >= 0 && value < limit, std::string(name) + " must be at least 0 and below " + std::to_string(limit));
    return value;
  };
  variant.settings.brightness = below("brightness", 1), variant.settings.noise = below("noise", 255);
  return variant;
}

std::vector<int64_t> plan_of(const Variant& variant, bool bfloat16) {
  std::vector<int64_t> plan = {variant.separable, bfloat16, variant.iterations,
                               static_cast<int64_t>(variant.sources.size())};
  for (size_t l = 0; l < variant.sources.size(); ++l) {
    plan.push_back(variant.outputs[l]);
    plan.push_back(static_cast<int64_t>(variant.sources[l].size()));
    plan.insert(plan.end(), variant.sources[l].begin(), variant.sources[l].end());
  }
  return plan;
}

std::vector<float> read_parameters(const File& file, const Variant& variant) {
  std::vector<float> parameters;
  for (size_t l = 0; l < variant.sources.size(); ++l) {
    int64_t inputs = 0;
    for (const int64_t source : variant.sources[l]) {
      check(source <= static_cast<int64_t>(l), "a layer must read the image or layers before it");
      inputs += source == 0 ? 3 : variant.outputs[static_cast<size_t>(source - 1)];
    }
    const std::string name = "convolutions." + std::to_string(l) + ".";
    const int64_t outputs = variant.outputs[l];
    if (variant.separable) {
      append(file, name + "depthwise.weight", {inputs, 1, 3, 3}, parameters);
      append(file, name + "depthwise.bias", {inputs}, parameters);
      append(file, name + "pointwise.weight", {outputs, inputs, 1, 1}, parameters);
      append(file, name + "pointwise.bias", {outputs}, parameters);
    } else {
      append(file, name + "weight", {outputs, inputs, 3, 3}, parameters);
      append(file, name + "bias", {outputs}, parameters);
    }
  }
  return parameters;
}

}  // namespace

std::unique_ptr<Model> read_model(const void* bytes, size_t size, bool bfloat16) {
  const File file = open(static_cast<const char*>(bytes), size);
  const Json* const metadata = file.header.find("__metadata__");
  const Json* const described = metadata == nullptr ? nullptr : metadata->find("zdce.variant");
  check(described != nullptr, "the .safetensors file does not say which network it is (zdce.variant in its metadata)");
  const Variant variant = read_variant(parse_json(described->text()));
  auto model = std::make_unique<Model>(plan_of(variant, bfloat16), read_parameters(file, variant));
  model->settings = variant.settings;
  model->guided = variant.guided;
  return model;
}

}  // namespace zdce
