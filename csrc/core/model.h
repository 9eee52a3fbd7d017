// A network with its weights and how it is used: what zdce.load makes of a file, without torch.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "network.h"
#include "pictures.h"
#include "workspace.h"

namespace zdce {

// What an enhancement can be told; a model has its own.
struct Settings {
  double strength = 1;    // scales the curve maps
  double brightness = 0;  // mean of [0, 1] that a dark scene of mean 0.05 is brought to; 0: no strength is sought
  double noise = 0;       // deviation of the picture's noise in levels of 255 that is smoothed; 0: none is
  int64_t scale = 1;      // the curve is estimated on a picture so many times smaller
  double shadows = 0;     // of guided maps, from -1 to 1: how much more black is lifted than what is lit; 0: as trained
  double highlights = 1;  // of guided maps, from 0 to 1: how far what is lit keeps its light
};

class Model {
 public:
  // plan: as read_plan takes it; parameters: in the network's order. Throws std::runtime_error where the plan makes no
  // network, where the parameters are not as many as it has, or not finite; and std::bad_alloc.
  Model(const std::vector<int64_t>& plan, const std::vector<float>& parameters);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Network& network() const { return network_; }

  // The model's own.
  Settings settings;

  // In use its maps are guided ones, fitted to the luma of a small picture.
  bool guided = false;

  // Channels of the maps in use.
  int64_t used_maps() const { return guided ? kGuidedMaps : network_.maps; }

  // Pictures are made small by bilinear samples, and maps large with aligned corners, as Zero-DCE++ was published.
  bool published_sampling() const { return settings.scale > 1 && !guided; }

 private:
  Network network_;
  Workspace memory_;
};

// bytes: a .safetensors file as zdce.save writes it. Throws std::runtime_error where it is none.
std::unique_ptr<Model> read_model(const void* bytes, size_t size, bool bfloat16);

// The curve maps (C, h, w) of a picture (H, W, 3) at `scale`, float, written; h and w are H and W over scale, rounded
// up.
void curve_maps(const Model& model, const Picture& picture, int64_t scale, float* maps);

// What `enhance` applies to a picture (H, W, 3), before settings.strength: (model.used_maps(), h, w), written. Curve
// maps, or of a guided model coefficients of luma, times the strength that the scene wants.
void used_maps(const Model& model, const Picture& picture, const Settings& settings, float* maps);

// The strength that the scene of a picture (H, W, 3) wants its maps to have, from 0 to 2; 1 where brightness is 0.
double scene_strength(const Model& model, const Picture& picture, double brightness);

// The lumas between which guided maps fall to 0.
struct Fall {
  float start = 0.4f, end = 1;
};

// What is known of the scene of an image (3, h, w), made small by area means, that guided maps are for.
struct Scene {
  std::vector<float> image;         // the area means
  std::vector<double> darker_half;  // how much each counts in the darker half
  double share = 0, mean = 0;       // of what is more than black
  double darker = 0, brighter = 0;  // mean luma of the two halves
  double brightest = 0;             // largest value of any colour

  double backlit() const;
  double night() const;
  // Factors of the maps of an image (3, h, w), (h, w), that leave the black of a night with lamps black.
  std::vector<float> shown(const std::vector<float>& image) const;
  Fall fall() const;
};

Scene read_scene(const std::vector<float>& image, int64_t height, int64_t width);

// The coefficients (2, h, w) of guided maps: of luma Y, `a Y + b` is the local linear function that comes closest to
// the mean of `channels` maps (channels, h, w) of an image (3, h, w), weighted by `shadows` and `highlights`.
std::vector<float> fit_guided_maps(const std::vector<float>& image, const std::vector<float>& maps, int64_t channels,
                                   int64_t height, int64_t width, double shadows, double highlights, Fall fall);

// The strength that a scene wants such coefficients to have, 0 to 4; `image` is the small one, (3, h, w).
double guided_scene_strength(const Model& model, const Scene& scene, const std::vector<float>& image,
                             const std::vector<float>& coefficients, int64_t height, int64_t width,
                             const Settings& settings);

// picture, result (written): (H, W, 3), interleaved, of one type, in memory of their own. Throws std::runtime_error
// where they or the settings are not as they must be.
void enhance(const Model& model, const Picture& picture, const Settings& settings, const Picture& result);

// Takes out of `enhanced` what a curve made of the noise of `picture`, in levels of 255, in place; both (H, W, 3),
// interleaved, of one type.
void denoise_in_place(const Picture& picture, const Picture& enhanced, double noise);

}  // namespace zdce
