#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "check.h"
#include "operations.h"
#include "pack.h"

namespace zdce {
namespace {

constexpr double kLevels = kWhite<uint8_t>;
constexpr int64_t kReach = kDenoiseReach;

// Pixels of the strips that are denoised one after the other: a strip with its result is 25 MB in 16 bits, 50 in
// floats.
constexpr int64_t kStrip = int64_t{1} << 21;

Picture planar(float* data, int64_t height, int64_t width) {
  return {data, Element::kFloat, height, width, width, 1, height * width};
}

// Rows [top, bottom) of a picture.
Picture rows(const Picture& picture, int64_t top, int64_t bottom) {
  Picture part = picture;
  part.data = picture.row(top), part.height = bottom - top;
  return part;
}

void copy_rows(const Picture& from, const Picture& to) {
  const size_t bytes = static_cast<size_t>(3 * from.width * bytes_of(from.element));
  for (int64_t y = 0; y < from.height; ++y) std::memcpy(to.row(y), from.row(y), bytes);
}

struct Buffer {
  Buffer(const Buffer&) = delete;
  Buffer(const Picture& like, int64_t height)
      : memory(static_cast<size_t>(3 * height * like.width * bytes_of(like.element))),
        picture{memory.data(), like.element, height, like.width, 3 * like.width, 3, 1} {}

  std::vector<char> memory;
  Picture picture;
};

void check_settings(const Picture& picture, const Settings& settings) {
  check_interleaved(picture, "picture");
  check(picture.height > 0 && picture.width > 0, "picture must have pixels");
  check(std::isfinite(settings.strength), "strength must be a finite number");
  check(settings.noise >= 0 && settings.noise < kLevels, "noise must be at least 0 and below 255");
  check(settings.grain >= 0 && settings.grain < kLevels, "grain must be at least 0 and below 255");
  check(settings.brightness >= 0 && settings.brightness < 1, "brightness must be at least 0 and below 1");
  check(settings.shadows >= -1 && settings.shadows <= 1, "shadows must be from -1 to 1");
  check(settings.highlights >= 0 && settings.highlights <= 1, "highlights must be from 0 to 1");
  check_scale(settings.scale);
}

// The scene of a picture (H, W, 3) whose image at the network's scale is `small`, (3, h, w).
Scene scene_of(const Picture& picture, int64_t scale, const std::vector<float>& small) {
  const int64_t own = scene_scale(picture.height, picture.width, scale);
  const int64_t height = small_side(picture.height, own), width = small_side(picture.width, own);
  if (own == scale) return read_scene(small, height, width);
  std::vector<float> seen(static_cast<size_t>(3 * height * width));
  reduce_picture(picture, own, true, seen.data());
  return read_scene(seen, height, width);
}

// Coefficients (2, h, w) for a picture, with the strength for its scene.
std::vector<float> guided_maps(const Model& model, const Picture& picture, const Settings& settings) {
  const int64_t height = small_side(picture.height, settings.scale), width = small_side(picture.width, settings.scale);
  const int64_t channels = model.network().maps;
  std::vector<float> small(static_cast<size_t>(3 * height * width)),
      maps(static_cast<size_t>(channels * height * width));
  reduce_picture(picture, settings.scale, true, small.data());
  run_network(model.network(), planar(small.data(), height, width), 1, true, planar(maps.data(), height, width));
  const auto fitted = [&](Fall fall, double highlights) {
    return fit_guided_maps(small, maps, channels, height, width, settings.shadows, highlights, fall);
  };
  if (settings.brightness == 0) return fitted({}, settings.highlights);
  const Scene scene = scene_of(picture, settings.scale, small);
  // The strength is found for maps that brighten the black of a night, and no lit parts: nothing else must make up for
  // the one, and the dark parts must not stay darker for the other.
  std::vector<float> coefficients = fitted(scene.fall(), 1);
  const double wanted = guided_scene_strength(model, scene, small, coefficients, height, width, settings);
  if (wanted > 0 && (scene.night() > 0 || settings.highlights != 1)) {
    const std::vector<float> shown = scene.shown(small);
    for (size_t i = 0; i < maps.size(); ++i) maps[i] *= shown[i % shown.size()];
    coefficients = fitted(scene.fall(), settings.highlights);
  }
  for (float& value : coefficients) value *= static_cast<float>(wanted);
  return coefficients;
}

}  // namespace

Model::Model(const std::vector<int64_t>& plan, const std::vector<float>& parameters)
    : network_(read_plan(plan.data(), static_cast<int64_t>(plan.size()))) {
  check_precision(network_);
  const int64_t expected = parameter_floats(network_);
  check(static_cast<int64_t>(parameters.size()) == expected,
        "the network must have " + std::to_string(expected) + " weights, got " + std::to_string(parameters.size()));
  for (const float parameter : parameters)
    check(std::isfinite(parameter), "weights must be finite, got one that is not");
  Offsets offsets;
  offsets.take(packed_floats(network_));
  float* const packed = memory_.take(offsets);
  pack(network_, parameters.data(), packed);
  place_weights(network_, packed);
}

void curve_maps(const Model& model, const Picture& picture, int64_t scale, float* maps) {
  check_scale(scale);
  const int64_t height = small_side(picture.height, scale), width = small_side(picture.width, scale);
  const Picture to{maps, Element::kFloat, height, width, width, 1, height * width};
  if (scale == 1) return run_network(model.network(), picture, 1, true, to);
  std::vector<float> small(static_cast<size_t>(3 * height * width));
  reduce_picture(picture, scale, !model.published_sampling(), small.data());
  run_network(model.network(), planar(small.data(), height, width), 1, true, to);
}

void used_maps(const Model& model, const Picture& picture, const Settings& settings, float* maps) {
  check_settings(picture, settings);
  if (model.guided) {
    const std::vector<float> coefficients = guided_maps(model, picture, settings);
    std::copy(coefficients.begin(), coefficients.end(), maps);
    return;
  }
  curve_maps(model, picture, settings.scale, maps);
  if (settings.brightness == 0) return;
  const float wanted = static_cast<float>(scene_strength(model, picture, settings.brightness));
  const int64_t count =
      model.used_maps() * small_side(picture.height, settings.scale) * small_side(picture.width, settings.scale);
  std::for_each(maps, maps + count, [wanted](float& map) { map *= wanted; });
}

void enhance(const Model& model, const Picture& picture, const Settings& settings, const Picture& result) {
  check_settings(picture, settings);
  check_same(picture, result, "result");
  if (model.guided && settings.strength != 0) {
    const std::vector<float> coefficients = guided_maps(model, picture, settings);
    if (std::all_of(coefficients.begin(), coefficients.end(), [](float value) { return value == 0; })) {
      return copy_rows(picture, result);
    }
    const Planes planes = contiguous_maps(coefficients.data(), kGuidedMaps, small_side(picture.height, settings.scale),
                                          small_side(picture.width, settings.scale));
    enhance_picture(picture, planes, model.network().iterations, settings.scale, false, settings.strength, false,
                    result);
    if (settings.noise > 0) denoise_in_place(picture, result, settings.noise, settings.grain);
    return;
  }
  const double strength =
      settings.strength == 0 ? 0 : settings.strength * scene_strength(model, picture, settings.brightness);
  if (strength == 0) return copy_rows(picture, result);
  if (settings.scale == 1) {
    run_network(model.network(), picture, strength, false, result);
  } else {
    const int64_t height = small_side(picture.height, settings.scale),
                  width = small_side(picture.width, settings.scale);
    std::vector<float> maps(static_cast<size_t>(model.network().maps * height * width));
    curve_maps(model, picture, settings.scale, maps.data());
    enhance_picture(picture, contiguous_maps(maps.data(), model.network().maps, height, width),
                    model.network().iterations, settings.scale, model.published_sampling(), strength, false, result);
  }
  if (settings.noise > 0) denoise_in_place(picture, result, settings.noise, settings.grain);
}

void denoise_in_place(const Picture& picture, const Picture& enhanced, double noise, double grain) {
  const int64_t height = enhanced.height, step = std::max(2 * kReach, kStrip / enhanced.width);
  const int64_t most = std::min(height, step + 2 * kReach);
  Buffer strip(enhanced, most), denoised(enhanced, most), above(enhanced, kReach);
  for (int64_t top = 0, before = 0; top < height; top += step) {
    const int64_t end = std::min(top + step, height), bottom = std::min(end + kReach, height);
    const int64_t first = top - before;
    const Picture from = rows(strip.picture, 0, bottom - first), to = rows(denoised.picture, 0, bottom - first);
    copy_rows(rows(above.picture, 0, before), from);
    copy_rows(rows(enhanced, top, bottom), rows(from, before, from.height));
    before = std::min(kReach, end);
    copy_rows(rows(enhanced, end - before, end), above.picture);
    denoise_picture(rows(picture, first, bottom), from, noise / kLevels, grain / kLevels, to);
    copy_rows(rows(to, top - first, end - first), rows(enhanced, top, end));
  }
}

}  // namespace zdce
