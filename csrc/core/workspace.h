// Scratch memory of a thread, kept from call to call.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#if defined(_WIN32)
#include <malloc.h>
#endif

namespace zdce {

// Offsets of pieces of memory, in floats; each piece begins on a cache line.
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
      memory_.reset(static_cast<float*>(allocate(bytes)));
      if (memory_ == nullptr) throw std::bad_alloc();
      std::memset(memory_.get(), 0, bytes);
      size_ = bytes;
    }
    return memory_.get();
  }

 private:
#if defined(_WIN32)
  static void* allocate(int64_t bytes) { return _aligned_malloc(static_cast<size_t>(bytes), 64); }
  static void release(void* memory) { _aligned_free(memory); }
#else
  static void* allocate(int64_t bytes) { return std::aligned_alloc(64, static_cast<size_t>(bytes)); }
  static void release(void* memory) { std::free(memory); }
#endif

  struct Free {
    void operator()(float* memory) const { release(memory); }
  };
  std::unique_ptr<float, Free> memory_;
  int64_t size_ = 0;
};

}  // namespace zdce
