/* Brightens a PPM: example NETWORK.safetensors DARK.ppm BRIGHT.ppm. The commands that build it: */
/* clang-format off */
/*
for source in csrc/core/[a-z]*.cpp csrc/core/kernels/[a-z]*.cpp; do
  c++ -std=c++20 -O3 -ffp-contract=fast -pthread -fno-math-errno -fno-trapping-math -Wno-psabi -c "$source"
done
cc csrc/core/example.c *.o -lstdc++ -lm -pthread -o example
*/
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>

#include "zdce.h"

static void* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  char* bytes = NULL;
  size_t space = 0;
  *size = 0;
  while (file != NULL && !ferror(file) && !feof(file)) {
    if (*size == space) bytes = realloc(bytes, space = 2 * space + 65536);
    if (bytes == NULL) break;
    *size += fread(bytes + *size, 1, space - *size, file);
  }
  if (file == NULL || ferror(file)) fprintf(stderr, "%s can't be read\n", path);
  if (file != NULL) fclose(file);
  return bytes;
}

/* Of 8 bits or, where the file's brightest value is 65535, 16, which PPM has with the high byte first. */
static int read_ppm(const char* path, zdce_picture* picture) {
  unsigned brightest = 0, width = 0, height = 0;
  FILE* file = fopen(path, "rb");
  if (file == NULL || fscanf(file, "P6 %u %u %u", &width, &height, &brightest) != 3 || fgetc(file) == EOF ||
      (brightest != 255 && brightest != 65535) || width > 65536 || height > 65536) {
    fprintf(stderr, "%s is no PPM of 8 or 16 bits\n", path);
    if (file != NULL) fclose(file);
    return 0;
  }
  const size_t value = brightest == 255 ? 1 : 2, bytes = 3 * value * width * height;
  picture->type = value == 1 ? ZDCE_UINT8 : ZDCE_UINT16;
  picture->width = width, picture->height = height, picture->row_stride = (int64_t)(3 * value * width);
  picture->data = malloc(bytes);
  const int whole = picture->data != NULL && fread(picture->data, 1, bytes, file) == bytes;
  fclose(file);
  if (!whole) fprintf(stderr, "%s has too few pixels\n", path);
  unsigned char* data = picture->data;
  for (size_t i = 0; whole && value == 2 && i < bytes; i += 2) {
    ((uint16_t*)picture->data)[i / 2] = (uint16_t)(data[i] << 8 | data[i + 1]);
  }
  return whole;
}

static int write_ppm(const char* path, const zdce_picture* picture) {
  const size_t values = (size_t)(3 * picture->width * picture->height);
  FILE* file = fopen(path, "wb");
  if (file == NULL) return 0;
  fprintf(file, "P6\n%d %d\n%d\n", (int)picture->width, (int)picture->height,
          picture->type == ZDCE_UINT8 ? 255 : 65535);
  for (size_t i = 0; i < values; ++i) {
    const unsigned value = picture->type == ZDCE_UINT8 ? ((uint8_t*)picture->data)[i] : ((uint16_t*)picture->data)[i];
    if (picture->type == ZDCE_UINT16) fputc((int)(value >> 8), file);
    fputc((int)(value & 255), file);
  }
  return fclose(file) == 0;
}

int main(int count, char** arguments) {
  if (count != 4) {
    fprintf(stderr, "usage: example NETWORK.safetensors DARK.ppm BRIGHT.ppm (zdce %s, %s)\n", zdce_version(),
            zdce_instruction_set());
    return 2;
  }
  size_t size = 0;
  void* bytes = read_file(arguments[1], &size);
  zdce_network* network = bytes == NULL ? NULL : zdce_network_from_safetensors(bytes, size, ZDCE_FP32);
  free(bytes);
  if (network == NULL) {
    fprintf(stderr, "%s: %s\n", arguments[1], zdce_last_error());
    return 1;
  }
  zdce_picture dark = {0}, bright;
  int done = read_ppm(arguments[2], &dark);
  bright = dark;
  bright.data = done ? malloc((size_t)(dark.row_stride * dark.height)) : NULL;
  zdce_settings settings = zdce_network_settings(network);
  double noise = 0;
  if (done && settings.noise > 0 && zdce_measure_noise(&dark, &noise, &settings.grain) == ZDCE_OK &&
      noise > settings.noise) {
    settings.noise = noise;
  }
  if (done && zdce_enhance(network, &dark, &settings, &bright) != ZDCE_OK) {
    fprintf(stderr, "%s: %s\n", arguments[2], zdce_last_error());
    done = 0;
  }
  if (done && !write_ppm(arguments[3], &bright)) {
    fprintf(stderr, "%s can't be written\n", arguments[3]);
    done = 0;
  }
  free(dark.data);
  free(bright.data);
  zdce_network_destroy(network);
  return done ? 0 : 1;
}
