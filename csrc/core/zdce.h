/* The C interface of zdce: enhances low-light pictures on the CPU, without further libraries.
 *
 *   zdce_network* network = zdce_network_from_safetensors(bytes, size, ZDCE_FP32);
 *   zdce_settings settings = zdce_network_settings(network);
 *   zdce_picture from = {pixels, ZDCE_UINT8, height, width, 3 * width};
 *   zdce_picture to = {result, ZDCE_UINT8, height, width, 3 * width};
 *   if (zdce_enhance(network, &from, &settings, &to) != ZDCE_OK) puts(zdce_last_error());
 *   zdce_network_destroy(network);
 *
 * Networks are immutable: any number of threads may use one at the same time. No function throws, prints or ends the
 * process. Failures are reported by a status, and described by zdce_last_error(). csrc/core/example.c is a complete
 * program. */
#ifndef ZDCE_H
#define ZDCE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(_WIN32)
#define ZDCE_API __attribute__((visibility("default")))
#else
#define ZDCE_API
#endif

/* Version of the interface: it grows by 1 when something is added, and by 100 when something is removed. */
#define ZDCE_INTERFACE 201

typedef enum {
  ZDCE_OK = 0,
  ZDCE_INVALID = 1,   /* an argument is wrong */
  ZDCE_NO_MEMORY = 2, /* memory ran out */
  ZDCE_FAILED = 3     /* other failures, such as an instruction set in ZDCE_ISA that the processor lacks */
} zdce_status;

/* ZDCE_BF16: convolutions in bfloat16, if zdce_has_bf16(); results differ by about a level of 255. */
typedef enum { ZDCE_FP32 = 0, ZDCE_BF16 = 1 } zdce_precision;

/* Levels from 0 to 255, levels from 0 to 65535, and floats in [0, 1]: pictures with NaN, or with others by more than
 * 1 / 255 of rounding, are refused. */
typedef enum { ZDCE_UINT8 = 0, ZDCE_UINT16 = 1, ZDCE_FLOAT = 2 } zdce_type;

/* An sRGB picture: three values for each pixel, and the pixels of a row contiguous. row_stride: bytes from one row to
 * the next; negative if the rows are stored bottom-up. */
typedef struct {
  void* data;
  zdce_type type;
  int64_t height, width, row_stride;
} zdce_picture;

/* Settings of enhancement. shadows and highlights are for networks with guided maps. */
typedef struct {
  double strength;   /* factor of the curve: 1 as trained, 0 returns the picture, above 1 stronger, below 0 darker */
  double brightness; /* target mean, in [0, 1), of a dark scene of mean 0.05; 0 leaves the curve as trained */
  double noise;      /* standard deviation of the picture's noise to smooth, in levels of 255, below 255; 0: none */
  int64_t scale;     /* the curve is estimated on a picture this many times smaller; 1 is exact, 2^20 the most */
  double shadows;    /* how strongly shadows are lifted, from -1 to 1; 0 as the network does */
  double highlights; /* how far lit parts keep their brightness, from 0 to 1; 1 completely */
  double grain;      /* deviation of the finest details to reduce, in levels of 255; at most `noise` counts */
} zdce_settings;

typedef struct zdce_network zdce_network;

/* A layer of a network: a 3 x 3 convolution or, in a separable network, a 3 x 3 convolution of each channel and a 1 x 1
 * convolution. All layers but the last end in a ReLU. */
typedef struct {
  int64_t outputs;        /* output channels; of the last layer 3, or 3 for each iteration */
  int64_t source_count;   /* number of sources, which are concatenated */
  const int64_t* sources; /* 0 is the picture, which only the first layer reads; n is the n-th layer */
} zdce_layer;

/* The library's ZDCE_INTERFACE, its version ("0.1.0"), its instruction set ("avx512", "avx2", "neon", "simd128",
 * "default"; NULL if the environment variable ZDCE_ISA names one that this processor lacks), and whether ZDCE_BF16 can
 * be used here. */
ZDCE_API int zdce_interface(void);
ZDCE_API const char* zdce_version(void);
ZDCE_API const char* zdce_instruction_set(void);
ZDCE_API int zdce_has_bf16(void);

/* Number of threads. Default, which 0 restores: OMP_NUM_THREADS, else the number of processors of the process. */
ZDCE_API int zdce_threads(void);
ZDCE_API void zdce_set_threads(int threads);

/* Description of this thread's last failure. Valid until its next failure. */
ZDCE_API const char* zdce_last_error(void);

/* A network from the bytes of a .safetensors file of zdce, which may be freed afterwards. NULL if they are not such a
 * file, or memory runs out. */
ZDCE_API zdce_network* zdce_network_from_safetensors(const void* bytes, size_t size, zdce_precision precision);

/* A network from its description. parameters: for each layer the filters (outputs, inputs, 3, 3) and biases (outputs);
 * for each separable layer the filters (inputs, 3, 3), biases (inputs), filters (outputs, inputs) and biases (outputs).
 * count: number of parameters. NULL if this is no network that can run here, or parameters are not finite. */
ZDCE_API zdce_network* zdce_network_create(const zdce_layer* layers, int64_t layer_count, int64_t iterations,
                                           int separable, const float* parameters, int64_t count,
                                           zdce_precision precision);

/* Frees a network; NULL is ignored. */
ZDCE_API void zdce_network_destroy(zdce_network* network);

/* The network's own settings, and the number of its curve's iterations and maps: 3, or 3 for each iteration. */
ZDCE_API zdce_settings zdce_network_settings(const zdce_network* network);
ZDCE_API int64_t zdce_network_iterations(const zdce_network* network);
ZDCE_API int64_t zdce_network_maps(const zdce_network* network);

/* Writes the enhanced picture to `result`, which has the picture's shape and type and does not overlap it. settings:
 * NULL for the network's own. */
ZDCE_API zdce_status zdce_enhance(const zdce_network* network, const zdce_picture* picture,
                                  const zdce_settings* settings, const zdce_picture* result);

/* The single steps of zdce_enhance.
 *
 * Writes the strength of the maps, in [0, 2], that brings the picture's scene to `brightness`. */
ZDCE_API zdce_status zdce_scene_strength(const zdce_network* network, const zdce_picture* picture, double brightness,
                                         double* strength);

/* Writes the curve maps of a picture at `scale`, in [-1, 1]: (maps, ceil(height / scale), ceil(width / scale)). */
ZDCE_API zdce_status zdce_curve_maps(const zdce_network* network, const zdce_picture* picture, int64_t scale,
                                     float* maps);

/* Writes the picture with the curves of `maps`, times `strength`, to `result`. maps: (map_count, ceil(height / scale),
 * ceil(width / scale)), map_count being 3, 3 for each iteration, or 2 for guided maps: a slope and an offset for each
 * pixel's luma. aligned: whether the corners of maps and picture coincide, as in networks with a scale of their own;
 * otherwise their borders do. */
ZDCE_API zdce_status zdce_apply(const zdce_picture* picture, const float* maps, int64_t map_count, int64_t iterations,
                                int64_t scale, int aligned, double strength, const zdce_picture* result);

/* Writes means over scale x scale pixels (or, if not `means`, bilinear samples) of a picture, in [0, 1]:
 * (3, ceil(height / scale), ceil(width / scale)). */
ZDCE_API zdce_status zdce_reduce(const zdce_picture* picture, int64_t scale, int means, float* small);

/* Writes standard deviations in levels of 255, from 0 to 10: of the picture's noise, and of the finest details of its
 * flat parts. zdce_enhance does not measure them: if the network's own noise is above 0, set zdce_settings.noise to the
 * larger of it and `noise`, and zdce_settings.grain to `grain`. */
ZDCE_API zdce_status zdce_measure_noise(const zdce_picture* picture, double* noise, double* grain);

/* Smooths, in place, the noise that the curve amplified in `enhanced`. noise, grain: of `picture`, as in zdce_settings.
 */
ZDCE_API zdce_status zdce_denoise(const zdce_picture* picture, const zdce_picture* enhanced, double noise,
                                  double grain);

#ifdef __cplusplus
}
#endif

#endif
