#include "base/thread_pool.h"

#include "base/check.h"
#include "base/control_group.h"
#include "base/processors.h"

namespace sluice::base {
namespace {

using std::chrono::microseconds;

// Longer than what lies between two forks of a step, and than what an engine does between two
// steps.
constexpr microseconds kWorkerPatience{300};
// A fork waits for its slowest index: about as long as the largest one takes.
constexpr microseconds kCallerPatience{1000};
// Where threads must share processors, polling takes time from those who work.
constexpr microseconds kCrowdedPatience{2};
// Reading the clock costs about as much as this many polls.
constexpr int kPollsPerClock = 32;

constexpr int kNumShift = 32;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

bool HasIndices(uint64_t ticket) {
  return static_cast<uint32_t>(ticket) < static_cast<uint32_t>(ticket >> kNumShift);
}

// Polls until is_ready() or until patience ends; returns the last is_ready().
template <typename Duration, typename F>
bool Poll(Duration patience, F is_ready) {
  std::chrono::steady_clock::time_point end;
  for (bool is_first = true;; is_first = false) {
    for (int i = 0; i < kPollsPerClock; ++i) {
      if (is_ready()) return true;
      Pause();
    }
    const auto now = std::chrono::steady_clock::now();
    if (is_first) end = now + patience;
    if (now >= end) return is_ready();
  }
}

}  // namespace

ThreadPool::ThreadPool(const Options& options) {
  CHECK(options.num_threads >= 1);
  const std::vector<int>& allowed = AllowedProcessors();
  const double quota = CpuQuota();
  const bool crowded = static_cast<size_t>(options.num_threads) > allowed.size() ||
                       static_cast<double>(options.num_threads) > quota;
  worker_patience_ = crowded ? kCrowdedPatience : kWorkerPatience;
  caller_patience_ = crowded ? kCrowdedPatience : kCallerPatience;
  if (options.pin) pins_ = PlanPinning(ReadTopology(allowed), quota, options.num_threads);
  stretches_ = std::vector<Stretch>(options.num_threads);
  workers_.reserve(options.num_threads - 1);
  for (int thread = 1; thread < options.num_threads; ++thread) {
    workers_.emplace_back([this, thread, options] { RunWorker(thread, options); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  ++wakeups_;
  wakeups_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::PinCaller() {
  const pthread_t self = pthread_self();
  if (pins_.empty() || (pinned_caller_.has_value() && pthread_equal(*pinned_caller_, self))) return;
  PinThisThread({pins_[0]});
  pinned_caller_ = self;
}

void ThreadPool::ParallelFor(int64_t n, absl::FunctionRef<void(int64_t, int)> work) {
  CHECK(n <= kMaxIndices);
  if (n <= 1 || workers_.empty()) {
    for (int64_t i = 0; i < n; ++i) work(i, 0);
    return;
  }
  work_ = &work;
  finished_.store(0, std::memory_order_relaxed);
  ticket_.store(static_cast<uint64_t>(n) << kNumShift, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    wakeups_.fetch_add(1, std::memory_order_seq_cst);
    wakeups_.notify_all();
  }
  const int32_t own = RunIndices(0);
  WaitUntilFinished(static_cast<int32_t>(n) - own);
}

void ThreadPool::ParallelForStretches(int64_t n, absl::FunctionRef<void(int64_t, int)> work) {
  const int64_t threads = num_threads();
  for (int64_t thread = 0; thread < threads; ++thread) {
    const uint64_t begin = static_cast<uint64_t>(thread * n / threads);
    const uint64_t end = static_cast<uint64_t>((thread + 1) * n / threads);
    stretches_[thread].left.store(end << kNumShift | begin, std::memory_order_relaxed);
  }
  ParallelFor(n, [&](int64_t, int thread) { work(TakeFromStretches(thread), thread); });
}

int64_t ThreadPool::TakeFromStretches(int thread) {
  for (int turn = 0;; ++turn) {
    const int owner = (thread + turn) % num_threads();
    std::atomic<uint64_t>& stretch = stretches_[owner].left;
    uint64_t left = stretch.load(std::memory_order_relaxed);
    while (HasIndices(left)) {
      const bool own = owner == thread;
      const uint64_t rest = own ? left + 1 : left - (uint64_t{1} << kNumShift);
      if (!stretch.compare_exchange_weak(left, rest, std::memory_order_relaxed)) continue;
      return own ? static_cast<uint32_t>(left) : static_cast<int64_t>(rest >> kNumShift);
    }
  }
}

int32_t ThreadPool::RunIndices(int thread) {
  int32_t count = 0;
  // Looking first keeps late additions few, and the cache line shared while there is nothing.
  while (HasIndices(ticket_.load(std::memory_order_relaxed))) {
    const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acquire);
    if (!HasIndices(ticket)) break;
    (*work_)(static_cast<uint32_t>(ticket), thread);
    ++count;
  }
  return count;
}

void ThreadPool::WaitUntilFinished(int32_t count) {
  const auto is_finished = [&] { return finished_.load(std::memory_order_acquire) == count; };
  if (Poll(caller_patience_, is_finished)) return;
  caller_sleeps_.store(true, std::memory_order_seq_cst);
  for (int32_t seen; (seen = finished_.load(std::memory_order_seq_cst)) != count;)
    finished_.wait(seen, std::memory_order_seq_cst);
  caller_sleeps_.store(false, std::memory_order_relaxed);
}

void ThreadPool::RunWorker(int thread, const Options& options) {
  // Who started the pool may be pinned itself, which a thread inherits.
  if (options.pin) PinThisThread(pins_.empty() ? AllowedProcessors() : std::vector{pins_[thread]});
  if (options.on_thread_start) options.on_thread_start(thread);
  while (WaitForIndices()) {
    const int32_t count = RunIndices(thread);
    if (count == 0) continue;
    finished_.fetch_add(count, std::memory_order_seq_cst);
    if (caller_sleeps_.load(std::memory_order_seq_cst)) finished_.notify_one();
  }
}

bool ThreadPool::WaitForIndices() {
  const auto has_news = [this] {
    return HasIndices(ticket_.load(std::memory_order_seq_cst)) ||
           stopping_.load(std::memory_order_relaxed);
  };
  while (!Poll(worker_patience_, has_news)) {
    const uint32_t seen = wakeups_.load(std::memory_order_seq_cst);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (!has_news()) wakeups_.wait(seen, std::memory_order_seq_cst);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
  return !stopping_.load(std::memory_order_relaxed);
}

}  // namespace sluice::base
