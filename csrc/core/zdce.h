/* zdce in C: low-light pictures enhanced on the CPU, with nothing but this library.
 *
 *   zdce_network* network = zdce_network_from_safetensors(bytes, size, ZDCE_FP32);
 *   zdce_settings settings = zdce_network_settings(network);
 *   zdce_picture from = {pixels, ZDCE_UINT8, height, width, 3 * width}, to = {result, ZDCE_UINT8, height, width, 3 *
 * width}; if (zdce_enhance(network, &from, &settings, &to) != ZDCE_OK) puts(zdce_last_error());
 *   zdce_network_destroy(network);
 *
 * Networks don't change: any number of threads may use one at once. Nothing is thrown, nothing is printed and the
 * process is not ended; what went wrong is a status, and in words zdce_last_error(). csrc/core/example.c is a whole
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

/* The interface's own number: it grows when something is added, and its hundreds when something is taken away. */
#define ZDCE_INTERFACE 101

typedef enum {
  ZDCE_OK = 0,
  ZDCE_INVALID = 1,   /* an argument is not as it must be */
  ZDCE_NO_MEMORY = 2, /* there is not enough */
  ZDCE_FAILED = 3     /* anything else, such as a set of instructions in ZDCE_ISA that the processor lacks */
} zdce_status;

/* ZDCE_BF16: convolutions in bfloat16, where zdce_has_bf16(); their results differ by about a level of 255. */
typedef enum { ZDCE_FP32 = 0, ZDCE_BF16 = 1 } zdce_precision;

/* Levels of 0 to 255, of 0 to 65535, and floats of [0, 1]. */
typedef enum { ZDCE_UINT8 = 0, ZDCE_UINT16 = 1, ZDCE_FLOAT = 2 } zdce_type;

/* RGB, sRGB-encoded, three values a pixel and the pixels of a row one after the other. row_stride: bytes from a row to
 * the next; negative where the first row in memory is the lowest. */
typedef struct {
  void* data;
  zdce_type type;
  int64_t height, width, row_stride;
} zdce_picture;

/* How a picture is enhanced. */
typedef struct {
  double strength;   /* scales the curve: 1 as trained, 0 gives the picture back, above 1 stronger, negative darkens */
  double brightness; /* mean of [0, 1] that a dark scene is brought to; 0: the curve is as trained */
  double noise;      /* deviation of the picture's noise in levels of 255, that is smoothed, below 255; 0: none is */
  int64_t scale;     /* the curve is estimated on a picture so many times smaller; 1 is exact */
  double shadows;    /* of guided maps, from -1 to 1: how much more shadows are lifted; 0: as the network does */
  double highlights; /* of guided maps, from 0 to 1: how far what is lit keeps its light; 1: wholly */
} zdce_settings;

typedef struct zdce_network zdce_network;

/* One layer of a network: a convolution, 3 x 3, or, in a separable network, 3 x 3 of each channel and then 1 x 1. All
 * but the last end in a ReLU. */
typedef struct {
  int64_t outputs;        /* channels; of the last layer 3, or 3 an iteration */
  int64_t source_count;   /* what the layer reads, concatenated: */
  const int64_t* sources; /* 0 is the picture, which the first layer reads alone; n is the n-th layer */
} zdce_layer;

/* ZDCE_INTERFACE of the library, its version ("0.1.0"), the set of instructions that it runs with ("avx512", "avx2",
 * "neon", "simd128", "default"; NULL where ZDCE_ISA names none of this processor's), and whether it has ZDCE_BF16 here.
 */
ZDCE_API int zdce_interface(void);
ZDCE_API const char* zdce_version(void);
ZDCE_API const char* zdce_instruction_set(void);
ZDCE_API int zdce_has_bf16(void);

/* Threads that the library works on: OMP_NUM_THREADS, else as many as the process has processors. 0 sets that again. */
ZDCE_API int zdce_threads(void);
ZDCE_API void zdce_set_threads(int threads);

/* What went wrong at this thread's last call that did not succeed. Valid until its next one. */
ZDCE_API const char* zdce_last_error(void);

/* A network from the bytes of a .safetensors file that zdce has written; they are not needed afterwards. NULL where
 * they are none, or there is no memory. */
ZDCE_API zdce_network* zdce_network_from_safetensors(const void* bytes, size_t size, zdce_precision precision);

/* A network from its description. parameters: float32, for each layer the filters (outputs, inputs, 3, 3) and the
 * biases (outputs); of a separable one the filters (inputs, 3, 3), biases (inputs), filters (outputs, inputs), biases
 * (outputs). count: how many they are. NULL where they make no network that can be run here, or are not finite. */
ZDCE_API zdce_network* zdce_network_create(const zdce_layer* layers, int64_t layer_count, int64_t iterations,
                                           int separable, const float* parameters, int64_t count,
                                           zdce_precision precision);

/* Does nothing to NULL. */
ZDCE_API void zdce_network_destroy(zdce_network* network);

/* How the network is meant to be used, and its curve's iterations and maps: 3, or 3 an iteration. */
ZDCE_API zdce_settings zdce_network_settings(const zdce_network* network);
ZDCE_API int64_t zdce_network_iterations(const zdce_network* network);
ZDCE_API int64_t zdce_network_maps(const zdce_network* network);

/* The enhanced picture into `result`, which has the picture's shape and type and memory of its own. settings: NULL for
 * the network's own. */
ZDCE_API zdce_status zdce_enhance(const zdce_network* network, const zdce_picture* picture,
                                  const zdce_settings* settings, const zdce_picture* result);

/* The steps that zdce_enhance takes, one by one.
 *
 * The strength, of [0, 2], with which the maps bring the picture's scene to `brightness`. */
ZDCE_API zdce_status zdce_scene_strength(const zdce_network* network, const zdce_picture* picture, double brightness,
                                         double* strength);

/* The curve maps of a picture at `scale`, in [-1, 1]: (maps, ceil(height / scale), ceil(width / scale)) floats,
 * written. */
ZDCE_API zdce_status zdce_curve_maps(const zdce_network* network, const zdce_picture* picture, int64_t scale,
                                     float* maps);

/* A picture with the curves of maps (3 or 3 an iteration, ceil(height / scale), ceil(width / scale)), times `strength`,
 * into `result`. aligned: whether the corners of maps and picture coincide, as with networks that have a scale of their
 * own; else their borders do. */
ZDCE_API zdce_status zdce_apply(const zdce_picture* picture, const float* maps, int64_t map_count, int64_t iterations,
                                int64_t scale, int aligned, double strength, const zdce_picture* result);

/* Means over scale x scale pixels, or single samples, of a picture: (3, ceil(height / scale), ceil(width / scale))
 * floats of [0, 1], written. */
ZDCE_API zdce_status zdce_reduce(const zdce_picture* picture, int64_t scale, int means, float* small);

/* The deviation of the picture's noise, in levels of 255, from 0 to 10, which zdce_enhance does not measure itself:
 * take the larger of it and the network's own as zdce_settings.noise. */
ZDCE_API zdce_status zdce_measure_noise(const zdce_picture* picture, double* noise);

/* Takes out of `enhanced` what the curve made of the picture's noise, in place. noise: levels of 255. */
ZDCE_API zdce_status zdce_denoise(const zdce_picture* picture, const zdce_picture* enhanced, double noise);

#ifdef __cplusplus
}
#endif

#endif
