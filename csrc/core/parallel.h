// Work on several threads: those of this file's pool, or the host program's own.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

namespace zdce {

// Runs body(context, begin, end) for parts of [0, count) of at least `grain` each, on several threads, until all are
// done. Parts don't throw.
struct Executor {
  int (*threads)();
  void (*run)(int64_t count, int64_t grain, void (*body)(void* context, int64_t begin, int64_t end), void* context);
};

// Threads of this library, started when first needed, asleep when there is nothing to do, and started anew in a forked
// process. Their number: OMP_NUM_THREADS, else the processors that affinity and cgroups leave to the process.
const Executor& own_threads();

// Sets the number of own_threads(), up to kMostThreads; 0 restores the default.
void set_own_number(int threads);
constexpr int kMostThreads = 1024;

// The threads that parallel_for uses: own_threads() unless another executor is set, which must stay valid.
const Executor& executor();
void set_executor(const Executor& executor);

inline int max_threads() { return executor().threads(); }

// Calls f(begin, end) for parts of [0, count), at least `grain` each. The first exception of a part is thrown again
// here, when all other parts that have begun are done.
template <class F>
void parallel_for(int64_t count, int64_t grain, const F& f) {
  struct Task {
    const F& f;
    std::mutex mutex;
    std::exception_ptr error;
  } task{f, {}, nullptr};
  const auto body = [](void* context, int64_t begin, int64_t end) {
    Task& task = *static_cast<Task*>(context);
    try {
      task.f(begin, end);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(task.mutex);
      if (task.error == nullptr) task.error = std::current_exception();
    }
  };
  executor().run(count, grain, body, &task);
  if (task.error != nullptr) std::rethrow_exception(task.error);
}

// Numbers from 0 that threads take: each takes the next ones when it has finished its last.
class Supply {
 public:
  Supply(int64_t count, int64_t part) : count_(count), part_(part) {}

  // Takes begin to end; false if none were left.
  bool take(int64_t& begin, int64_t& end) {
    begin = next_.fetch_add(part_, std::memory_order_relaxed);
    end = std::min(count_, begin + part_);
    return begin < count_;
  }

 private:
  const int64_t count_, part_;
  std::atomic<int64_t> next_{0};
};

// Calls f(supply) on as many threads as there are; f takes from [0, count), `part` numbers at a time, until none is
// left. A thread that the system delays takes fewer.
template <class F>
void parallel_supply(int64_t count, int64_t part, const F& f) {
  Supply supply(count, part);
  parallel_for(std::min<int64_t>(max_threads(), (count + part - 1) / part), 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) f(supply);
  });
}

}  // namespace zdce
