// The C interface: checks arguments that C can get wrong, calls the core, and turns exceptions into statuses.

#include "zdce.h"

#include <atomic>
#include <cmath>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "kernels.h"
#include "model.h"
#include "operations.h"
#include "parallel.h"

#ifndef ZDCE_VERSION
#define ZDCE_VERSION "0.1.0"
#endif

struct zdce_network {
  std::unique_ptr<zdce::Model> model;
};

namespace {

using namespace zdce;

// Not a std::string, which might find no memory for the message that memory ran out.
thread_local char last_error[512] = "";

zdce_status failed(zdce_status status, const char* message) {
  constexpr std::string_view prefix = "zdce: ";
  std::string_view text = message;
  if (text.substr(0, prefix.size()) == prefix) text.remove_prefix(prefix.size());
  last_error[text.copy(last_error, sizeof(last_error) - 1)] = '\0';
  return status;
}

template <class F>
zdce_status guarded(const F& f) {
  try {
    f();
    return ZDCE_OK;
  } catch (const std::bad_alloc&) {
    return failed(ZDCE_NO_MEMORY, "not enough memory");
  } catch (const std::length_error&) {
    return failed(ZDCE_NO_MEMORY, "not enough memory");
  } catch (const std::runtime_error& error) {
    return failed(ZDCE_INVALID, error.what());
  } catch (const std::exception& error) {
    return failed(ZDCE_FAILED, error.what());
  } catch (...) {
    return failed(ZDCE_FAILED, "an unknown error");
  }
}

template <class T>
const T& given(const T* argument, const char* name) {
  if (argument == nullptr) throw std::runtime_error(std::string(name) + " must not be NULL");
  return *argument;
}

Picture picture_of(const zdce_picture* given_picture, const char* name) {
  const zdce_picture& p = given(given_picture, name);
  constexpr Element elements[] = {Element::kUint8, Element::kUint16, Element::kFloat};
  const auto check = [name](bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string(name) + what);
  };
  check(p.type >= ZDCE_UINT8 && p.type <= ZDCE_FLOAT, " must be of type ZDCE_UINT8, ZDCE_UINT16 or ZDCE_FLOAT");
  check(p.data != nullptr, " must have data, got NULL");
  check(p.height > 0 && p.width > 0 && p.height < kSideLimit && p.width < kSideLimit,
        " must have sides of 1 to 2^28 - 1 pixels");
  const int64_t bytes = bytes_of(elements[p.type]);
  check(reinterpret_cast<uintptr_t>(p.data) % static_cast<uintptr_t>(bytes) == 0 && p.row_stride % bytes == 0,
        " must have rows that begin at a multiple of a value's bytes");
  check(p.height == 1 || std::abs(p.row_stride) >= 3 * p.width * bytes, " must have rows that don't overlap");
  return {p.data, elements[p.type], p.height, p.width, p.row_stride / bytes, 3, 1};
}

// A picture to read. Floats must be in [0, 1], up to a level of 255 of rounding: one NaN would spread through the
// scene.
Picture input_of(const zdce_picture* given_picture, const char* name) {
  const Picture picture = picture_of(given_picture, name);
  if (picture.element != Element::kFloat) return picture;
  std::atomic<bool> outside{false};
  parallel_for(picture.height, 1 + (1 << 16) / picture.width, [&](int64_t begin, int64_t end) {
    int wrong = 0;  // no branch: compared in vectors
    for (int64_t y = begin; y < end; ++y) {
      const float* const values = reinterpret_cast<const float*>(picture.row(y));
      for (int64_t i = 0; i < 3 * picture.width; ++i) {
        wrong |= !((values[i] >= -1 / 255.0f) & (values[i] <= 256 / 255.0f));
      }
    }
    if (wrong != 0) outside = true;
  });
  if (outside) throw std::runtime_error(std::string(name) + " must have values in [0, 1], got others, or NaN");
  return picture;
}

void check_apart(const Picture& picture, const Picture& result) {
  if (picture.data == result.data) throw std::runtime_error("result must have memory of its own");
}

zdce_network* made(std::unique_ptr<Model> model) { return new zdce_network{std::move(model)}; }

bool in_bf16(zdce_precision precision) {
  if (precision != ZDCE_FP32 && precision != ZDCE_BF16) {
    throw std::runtime_error("precision must be ZDCE_FP32 or ZDCE_BF16");
  }
  return precision == ZDCE_BF16;
}

std::vector<int64_t> plan_of(const zdce_layer* layers, int64_t count, int64_t iterations, bool separable,
                             bool bfloat16) {
  const std::string most = std::to_string(kMaxLayers);
  if (count < 2 || count > kMaxLayers) {
    throw std::runtime_error("layer_count must be 2 to " + most + ", got " + std::to_string(count));
  }
  std::vector<int64_t> plan = {separable, bfloat16, iterations, count};
  for (int64_t l = 0; l < count; ++l) {
    const zdce_layer& layer = (&given(layers, "layers"))[l];
    if (layer.source_count < 1 || layer.source_count > kMaxLayers) {
      throw std::runtime_error("source_count must be 1 to " + most + ", got " + std::to_string(layer.source_count));
    }
    const int64_t* const sources = &given(layer.sources, "sources");
    plan.push_back(layer.outputs), plan.push_back(layer.source_count);
    plan.insert(plan.end(), sources, sources + layer.source_count);
  }
  return plan;
}

}  // namespace

int zdce_interface(void) { return ZDCE_INTERFACE; }
const char* zdce_version(void) { return ZDCE_VERSION; }
const char* zdce_last_error(void) { return last_error; }

const char* zdce_instruction_set(void) {
  const char* name = nullptr;
  guarded([&] { name = isa_name(isa()); });
  return name;
}

int zdce_has_bf16(void) {
  bool has = false;
  guarded([&] { has = can_run_bfloat16(); });
  return has;
}

int zdce_threads(void) { return own_threads().threads(); }
void zdce_set_threads(int threads) { set_own_number(threads); }

zdce_network* zdce_network_from_safetensors(const void* bytes, size_t size, zdce_precision precision) {
  zdce_network* network = nullptr;
  guarded([&] {
    if (bytes == nullptr) throw std::runtime_error("bytes must not be NULL");
    network = made(read_model(bytes, size, in_bf16(precision)));
  });
  return network;
}

zdce_network* zdce_network_create(const zdce_layer* layers, int64_t layer_count, int64_t iterations, int separable,
                                  const float* parameters, int64_t count, zdce_precision precision) {
  zdce_network* network = nullptr;
  guarded([&] {
    const std::vector<int64_t> plan = plan_of(layers, layer_count, iterations, separable != 0, in_bf16(precision));
    const float* const values = &given(parameters, "parameters");
    if (count < 0) throw std::runtime_error("count must be at least 0, got " + std::to_string(count));
    network = made(std::make_unique<Model>(plan, std::vector<float>(values, values + count)));
  });
  return network;
}

void zdce_network_destroy(zdce_network* network) { delete network; }

zdce_settings zdce_network_settings(const zdce_network* network) {
  if (network == nullptr) return {1, 0, 0, 1, 0, 1, 0};
  const Settings& own = network->model->settings;
  return {own.strength, own.brightness, own.noise, own.scale, own.shadows, own.highlights, own.grain};
}

int64_t zdce_network_iterations(const zdce_network* network) {
  return network == nullptr ? 0 : network->model->network().iterations;
}

int64_t zdce_network_maps(const zdce_network* network) {
  return network == nullptr ? 0 : network->model->network().maps;
}

zdce_status zdce_enhance(const zdce_network* network, const zdce_picture* picture, const zdce_settings* settings,
                         const zdce_picture* result) {
  return guarded([&] {
    const Model& model = *given(network, "network").model;
    const Picture from = input_of(picture, "picture"), to = picture_of(result, "result");
    check_apart(from, to);
    Settings how = model.settings;
    if (settings != nullptr) {
      how = {settings->strength, settings->brightness, settings->noise, settings->scale,
             settings->shadows,  settings->highlights, settings->grain};
    }
    enhance(model, from, how, to);
  });
}

zdce_status zdce_scene_strength(const zdce_network* network, const zdce_picture* picture, double brightness,
                                double* strength) {
  return guarded([&] {
    if (!(brightness >= 0 && brightness < 1)) throw std::runtime_error("brightness must be at least 0 and below 1");
    given(strength, "strength");
    *strength = scene_strength(*given(network, "network").model, input_of(picture, "picture"), brightness);
  });
}

zdce_status zdce_curve_maps(const zdce_network* network, const zdce_picture* picture, int64_t scale, float* maps) {
  return guarded([&] {
    given(maps, "maps");
    curve_maps(*given(network, "network").model, input_of(picture, "picture"), scale, maps);
  });
}

zdce_status zdce_apply(const zdce_picture* picture, const float* maps, int64_t map_count, int64_t iterations,
                       int64_t scale, int aligned, double strength, const zdce_picture* result) {
  return guarded([&] {
    const Picture from = input_of(picture, "picture");
    given(maps, "maps");
    check_scale(scale);
    if (!std::isfinite(strength)) throw std::runtime_error("strength must be a finite number");
    if (map_count < kGuidedMaps || map_count > kMaxMaps) {
      throw std::runtime_error("map_count must be " + std::to_string(kGuidedMaps) + " to " + std::to_string(kMaxMaps) +
                               ", got " + std::to_string(map_count));
    }
    enhance_picture(from,
                    contiguous_maps(maps, map_count, small_side(from.height, scale), small_side(from.width, scale)),
                    iterations, scale, aligned != 0, strength, false, picture_of(result, "result"));
  });
}

zdce_status zdce_reduce(const zdce_picture* picture, int64_t scale, int means, float* small) {
  return guarded([&] {
    given(small, "small");
    reduce_picture(input_of(picture, "picture"), scale, means != 0, small);
  });
}

zdce_status zdce_measure_noise(const zdce_picture* picture, double* noise, double* grain) {
  return guarded([&] {
    given(noise, "noise"), given(grain, "grain");
    const NoiseLevels found = measure_noise(input_of(picture, "picture"));
    *noise = found.noise, *grain = found.grain;
  });
}

zdce_status zdce_denoise(const zdce_picture* picture, const zdce_picture* enhanced, double noise, double grain) {
  return guarded([&] {
    const Picture from = input_of(picture, "picture"), to = input_of(enhanced, "enhanced");
    check_apart(from, to);
    denoise_in_place(from, to, noise, grain);
  });
}
