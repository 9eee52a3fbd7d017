// libFuzzer's way into the C interface: any bytes as a network's file, and where they are one, as pictures and
// settings.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../../csrc/core/zdce.h"

namespace {

// Bytes of the input one after the other, zeros behind its end.
struct Bytes {
  const uint8_t* at;
  const uint8_t* end;

  template <class T>
  T next() {
    T value{};
    const size_t left = static_cast<size_t>(end - at), size = left < sizeof(T) ? left : sizeof(T);
    std::memcpy(&value, at, size);
    at += size;
    return value;
  }
};

void enhance(const zdce_network* network, Bytes bytes) {
  const zdce_type type = static_cast<zdce_type>(bytes.next<uint8_t>() % 4);
  const size_t value = type == ZDCE_UINT8 ? 1 : type == ZDCE_UINT16 ? 2 : 4;
  const int64_t height = bytes.next<uint8_t>() % 20, width = bytes.next<uint8_t>() % 90;
  std::vector<uint8_t> pixels(static_cast<size_t>(3 * height * width) * value), result(pixels.size());
  for (uint8_t& pixel : pixels) pixel = bytes.next<uint8_t>();
  const int64_t stride = 3 * width * static_cast<int64_t>(value);
  const zdce_picture from = {pixels.data(), type, height, width, stride};
  const zdce_picture to = {result.data(), type, height, width, stride};
  zdce_settings settings = zdce_network_settings(network);
  settings.strength = bytes.next<float>(), settings.brightness = bytes.next<float>();
  settings.noise = bytes.next<float>(), settings.scale = bytes.next<int8_t>();
  settings.grain = bytes.next<float>();
  if (zdce_enhance(network, &from, &settings, &to) != ZDCE_OK && *zdce_last_error() == '\0') std::abort();
  double strength = 0;
  if (zdce_scene_strength(network, &from, settings.brightness, &strength) == ZDCE_OK) {
    if (!(strength >= 0 && strength <= 2)) std::abort();
  }
  double noise = 0, grain = 0;
  if (zdce_measure_noise(&from, &noise, &grain) == ZDCE_OK) {
    if (!(noise >= 0 && noise <= 10 && grain >= 0 && grain <= 10)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  zdce_network* const network = zdce_network_from_safetensors(data, size, ZDCE_FP32);
  if (network == nullptr) {
    if (*zdce_last_error() == '\0') std::abort();
    return 0;
  }
  enhance(network, {data + size / 2, data + size});
  zdce_network_destroy(network);
  return 0;
}
