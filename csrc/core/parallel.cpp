#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>
#include <string>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace zdce {
namespace {

// A job's parts are taken one by one, by the caller and by idle workers. So a job ends even if no worker is free, and
// one job may start another.
struct Job {
  int64_t count, part, parts;
  void (*body)(void*, int64_t, int64_t);
  void* context;
  std::atomic<int64_t> next{0};
  int helpers = 0;  // workers on this job; guarded by the pool's mutex

  void run() {
    for (int64_t i; (i = next++) < parts;) body(context, i * part, std::min(count, (i + 1) * part));
  }
};

class Pool {
 public:
  void run(Job& job, int64_t helpers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      grow(helpers);
      jobs_.push_back(&job);
    }
    for (int64_t i = 0; i < helpers; ++i) wake_.notify_one();
    job.run();
    std::unique_lock<std::mutex> lock(mutex_);
    jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
    done_.wait(lock, [&] { return job.helpers == 0; });
  }

 private:
  // Fewer than requested if the system starts no more.
  void grow(int64_t wanted) {
    try {
      for (; workers_ < wanted; ++workers_) std::thread([this] { work(); }).detach();
    } catch (const std::system_error&) {
    }
  }

  Job* open() const {
    for (Job* const job : jobs_) {
      if (job->next.load() < job->parts) return job;
    }
    return nullptr;
  }

  [[noreturn]] void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (Job* job = nullptr;;) {
      wake_.wait(lock, [&] { return (job = open()) != nullptr; });
      ++job->helpers;
      lock.unlock();
      job->run();
      lock.lock();
      if (--job->helpers == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<Job*> jobs_;
  int64_t workers_ = 0;
};

// Never destroyed: its threads sleep until the process ends.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
  Pool* existing = pool.load();
  if (existing != nullptr) return *existing;
#if defined(__unix__) || defined(__APPLE__)
  // A forked process has none of these threads, and its locks may be in any state, so it starts a new pool.
  static const int registered = pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); });
  (void)registered;
#endif
  Pool* const mine = new Pool;
  if (pool.compare_exchange_strong(existing, mine)) return *mine;
  delete mine;  // another thread was faster
  return *existing;
}

// The first 255 characters of a file; empty if there is none.
[[maybe_unused]] std::string text_of(const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return "";
  char text[256] = {};
  const size_t length = std::fread(text, 1, sizeof(text) - 1, file);
  std::fclose(file);
  return {text, length};
}

// The cgroup's quota in processors, rounded up; 0 if there is none.
int quota() {
#if defined(__linux__)
  std::string group = text_of("/proc/self/cgroup");
  group = group.compare(0, 3, "0::") == 0 ? group.substr(3, group.find('\n') - 3) : "";
  long long limit = 0, period = 0;
  for (const std::string& path : {"/sys/fs/cgroup" + group + "/cpu.max", std::string("/sys/fs/cgroup/cpu.max")}) {
    if (std::sscanf(text_of(path).c_str(), "%lld %lld", &limit, &period) == 2) break;
    limit = 0;
  }
  if (limit == 0) {
    limit = std::atoll(text_of("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").c_str());
    period = std::atoll(text_of("/sys/fs/cgroup/cpu/cpu.cfs_period_us").c_str());
  }
  if (limit > 0 && period > 0) return static_cast<int>(std::min<long long>((limit + period - 1) / period, 1 << 16));
#endif
  return 0;
}

int processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

int usual_threads() {
  const char* const named = std::getenv("OMP_NUM_THREADS");
  const int asked = named == nullptr ? 0 : std::atoi(named);
  if (asked > 0) return std::min(asked, kMostThreads);
  const int own = processors(), allowed = quota();
  return std::clamp(allowed > 0 ? std::min(own, allowed) : own, 1, kMostThreads);
}

std::atomic<int> chosen_threads{0};

int own_number() {
  int number = chosen_threads.load();
  if (number == 0) chosen_threads.store(number = usual_threads());
  return number;
}

void own_run(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
  if (count <= 0) return;
  const int64_t threads = own_number();
  const int64_t part = std::max(grain, (count + threads - 1) / threads), parts = (count + part - 1) / part;
  if (parts == 1) return body(context, 0, count);
  Job job{count, part, parts, body, context, {}, 0};
  the_pool().run(job, parts - 1);
}

std::atomic<const Executor*> set_one{nullptr};

}  // namespace

const Executor& own_threads() {
  static constexpr Executor own = {own_number, own_run};
  return own;
}

const Executor& executor() {
  const Executor* const set = set_one.load();
  return set == nullptr ? own_threads() : *set;
}

void set_executor(const Executor& executor) { set_one.store(&executor); }

void set_own_number(int threads) { chosen_threads.store(threads <= 0 ? 0 : std::min(threads, kMostThreads)); }

}  // namespace zdce
