// A strict reader of JSON for the header of .safetensors files. The core uses no library but the standard one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace zdce {

struct Json {
  enum class Kind { kNull, kBoolean, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  bool boolean = false;
  double number = 0;
  std::string string;
  std::vector<Json> array;
  std::map<std::string, Json, std::less<>> object;

  // The value of a key. Throws std::runtime_error if there is none, or this is not an object; likewise below.
  const Json& at(std::string_view key) const;
  const Json* find(std::string_view key) const;
  const std::string& text() const;
  // An integer in [low, high].
  int64_t integer(int64_t low, int64_t high) const;
  double real() const;
  bool flag() const;
  const std::vector<Json>& list() const;
};

// Throws std::runtime_error if the text is not a single JSON value, or is nested deeper than 16.
Json parse_json(std::string_view text);

}  // namespace zdce
