// A network with its weights and settings, as read from a file by zdce.load, without torch.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "network.h"
#include "pictures.h"
#include "workspace.h"

namespace zdce {

// Settings of enhancement; each model has its own.
struct Settings {
  double strength = 1;    // factor of the curve maps
  double brightness = 0;  // target mean, in [0, 1), of a dark scene of mean 0.05; 0: no strength is found
  double noise = 0;       // standard deviation of the picture's noise to smooth, in levels of 255; 0: none
  int64_t scale = 1;      // the curve is estimated on a picture this many times smaller
  double shadows = 0;     // for guided maps, from -1 to 1: how strongly shadows are lifted; 0: as trained
  double highlights = 1;  // for guided maps, from 0 to 1: how far lit parts keep their brightness
  double grain = 0;       // deviation of the finest details to reduce, in levels of 255; at most `noise` counts
};

class Model {
 public:
  // plan: as for read_plan; parameters: in the network's order. Throws std::runtime_error if the plan is not a network,
  // or if the number of parameters is wrong or one is not finite; and std::bad_alloc.
  Model(const std::vector<int64_t>& plan, const std::vector<float>& parameters);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Network& network() const { return network_; }

  // The model's own settings.
  Settings settings;

  // The applied maps are guided ones, fitted to the luma of a small picture.
  bool guided = false;

  // Channels of the applied maps.
  int64_t used_maps() const { return guided ? kGuidedMaps : network_.maps; }

  // As in the published Zero-DCE++, pictures are reduced to bilinear samples, and maps are enlarged with aligned
  // corners.
  bool published_sampling() const { return settings.scale > 1 && !guided; }

 private:
  Network network_;
  Workspace memory_;
};

// bytes: a .safetensors file as DCENet.save writes it. Throws std::runtime_error if they are not.
std::unique_ptr<Model> read_model(const void* bytes, size_t size, bool bfloat16);

// Writes the curve maps (C, h, w) of a picture (H, W, 3) at `scale`, float; h and w are H and W over scale, rounded up.
void curve_maps(const Model& model, const Picture& picture, int64_t scale, float* maps);

// Writes the maps that `enhance` applies to a picture (H, W, 3), before settings.strength: (model.used_maps(), h, w).
// They are curve maps or, for a guided model, coefficients of luma, times the strength for the scene.
void used_maps(const Model& model, const Picture& picture, const Settings& settings, float* maps);

// The strength of the maps for the scene of a picture (H, W, 3), from 0 to 2; 1 if brightness is 0.
double scene_strength(const Model& model, const Picture& picture, double brightness);

// The lumas between which guided maps fall to 0.
struct Fall {
  float start = 0.4f, end = 1;
};

// Statistics of a scene for guided maps, from an image (3, h, w) of area means.
struct Scene {
  std::vector<float> image;         // the area means
  std::vector<double> darker_half;  // weight of each area mean in the darker half
  double share = 0, mean = 0;       // share of the area means that are not black, and their mean
  double darker = 0, brighter = 0;  // mean luma of the two halves
  double brightest = 0;             // mean of the largest colours in the brightest thousandth

  double backlit() const;
  double night() const;
  // Factors (h, w) of the maps of an image (3, h, w) that keep the black of a night black.
  std::vector<float> shown(const std::vector<float>& image) const;
  Fall fall() const;
};

Scene read_scene(const std::vector<float>& image, int64_t height, int64_t width);

// How many times smaller the image is that the scene of a picture is read from: `scale`, as the network's, but less
// where that would leave fewer than two pixels for an area mean.
int64_t scene_scale(int64_t height, int64_t width, int64_t scale);

// Writes the coefficients (2, h, w) of guided maps: of luma Y, `a Y + b` is the local linear function closest to the
// mean of the maps (channels, h, w) of an image (3, h, w), weighted by `shadows` and `highlights`.
std::vector<float> fit_guided_maps(const std::vector<float>& image, const std::vector<float>& maps, int64_t channels,
                                   int64_t height, int64_t width, double shadows, double highlights, Fall fall);

// The strength of such coefficients for a scene, from 0 to 4; `image` is the small one, (3, h, w).
double guided_scene_strength(const Model& model, const Scene& scene, const std::vector<float>& image,
                             const std::vector<float>& coefficients, int64_t height, int64_t width,
                             const Settings& settings);

// picture, result (written): (H, W, 3), interleaved, of one type; they don't overlap. Throws std::runtime_error if they
// or the settings are wrong.
void enhance(const Model& model, const Picture& picture, const Settings& settings, const Picture& result);

// Smooths, in place, the noise and grain of `picture`, in levels of 255, that the curve amplified in `enhanced`; both
// are (H, W, 3), interleaved, of one type.
void denoise_in_place(const Picture& picture, const Picture& enhanced, double noise, double grain);

}  // namespace zdce
