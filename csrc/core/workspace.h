// Scratch memory of a thread, kept from call to call.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace zdce {

// Where pieces of memory begin, in floats, each on a cache line.
struct Offsets {
  int64_t size = 0;

  int64_t take(int64_t floats) {
    const int64_t at = size;
    size += (floats + 15) / 16 * 16;
    return at;
  }
};

// Zeroed when it grows.
class Workspace {
 public:
  float* take(const Offsets& offsets) {
    const int64_t bytes = offsets.size * static_cast<int64_t>(sizeof(float));
    if (bytes > size_) {
      size_ = 0;
      memory_.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
      if (memory_ == nullptr) throw std::bad_alloc();
      std::memset(memory_.get(), 0, bytes);
      size_ = bytes;
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  std::unique_ptr<float, Free> memory_;
  int64_t size_ = 0;
};

}  // namespace zdce
