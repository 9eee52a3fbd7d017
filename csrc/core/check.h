// How the core refuses arguments.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace zdce {

inline void check(bool holds, std::string_view message) {
  if (!holds) throw std::runtime_error("zdce: " + std::string(message));
}

}  // namespace zdce
