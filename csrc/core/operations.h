// The operations on pictures. Arguments are checked: a std::runtime_error names the wrong one.
#pragma once

#include <string>

#include "network.h"
#include "pass_geometry.h"
#include "pictures.h"
#include "planes.h"

namespace zdce {

inline void check_interleaved(const Picture& picture, const char* name) {
  if (!picture.interleaved()) {
    throw std::runtime_error(std::string("zdce: ") + name + " must have the pixels of a row one after the other");
  }
}

inline void check_same(const Picture& picture, const Picture& other, const char* name) {
  check_interleaved(other, name);
  if (other.element != picture.element || other.height != picture.height || other.width != picture.width) {
    throw std::runtime_error(std::string("zdce: ") + name + " must have the picture's shape and type");
  }
}

// (1, channels, height, width) of float, contiguous. Kernels that read maps don't write them.
inline Planes contiguous_maps(const float* maps, int64_t channels, int64_t height, int64_t width) {
  const int64_t row = width * static_cast<int64_t>(sizeof(float));
  return {const_cast<char*>(reinterpret_cast<const char*>(maps)),
          Element::kFloat,
          1,
          channels,
          height,
          width,
          channels * height * row,
          height * row,
          row,
          sizeof(float)};
}

// picture: (H, W, 3), interleaved; small: (3, ceil(H / scale), ceil(W / scale)) in [0, 1], written: area means or,
// without antialiasing, bilinear samples.
void reduce_picture(const Picture& picture, int64_t scale, bool antialias, float* small);

// picture, enhanced (written): (H, W, 3), interleaved, of one type; maps: (1, 3 T, 3 or, guided ones, 2, ceil(H /
// scale), ceil(W / scale)), of any type but double.
void enhance_picture(const Picture& picture, const Planes& maps, int64_t iterations, int64_t scale, bool align_corners,
                     double strength, bool logits, const Picture& enhanced);

// picture, enhanced, denoised (written, without overlap): (H, W, 3), interleaved, of one type. noise: standard
// deviation of the picture's noise, as a fraction of white; grain: that of its finest details, of which at most `noise`
// counts.
void denoise_picture(const Picture& picture, const Picture& enhanced, double noise, double grain,
                     const Picture& denoised);

// Standard deviations in levels of 255, from 0 to 10: of a picture's noise, and of the finest details of its flat
// parts.
struct NoiseLevels {
  double noise = 0, grain = 0;
};

// Both of a picture (H, W, 3), any strides; 0 if too little of it is neither black nor white.
NoiseLevels measure_noise(const Picture& picture);

// Whether this processor can run a network's bfloat16.
void check_precision(const Network& network);

// picture: (H, W, 3), any strides; network: with packed weights. result, written: (H, W, 3) or, with `maps`, the curve
// maps (C, H, W), float. strength: factor of the maps.
void run_network(const Network& network, const Picture& picture, double strength, bool maps, const Picture& result);

// One tile of run_network, on this thread: rows from top to bottom and columns from left to right; top and left are
// multiples of 4.
void run_network_tile(const Network& network, const Picture& picture, const PictureTile& tile, const Picture& result);

}  // namespace zdce
