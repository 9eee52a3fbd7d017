// Scratch memory that a thread keeps.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace zdce::engine {

// A thread's memory, zeroed when it grows.
class Workspace {
 public:
  char* take(int64_t bytes) {  // a multiple of 64
    if (bytes > size_) {
      size_ = 0;
      memory_.reset(static_cast<char*>(std::aligned_alloc(64, bytes)));
      if (memory_ == nullptr) throw std::bad_alloc();
      std::memset(memory_.get(), 0, bytes);
      size_ = bytes;
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<char, Free> memory_;
  int64_t size_ = 0;
};

}  // namespace zdce::engine
