// The engine with its thread, and clients on threads of their own. ThreadSanitizer watches.
#include "scheduler/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

// A reader that sleeps until its request has ended.
class BlockingReader {
 public:
  BlockingReader() : stream_(std::make_shared<TokenStream>([this] { Read(); })) {}

  const std::shared_ptr<TokenStream>& stream() const { return stream_; }

  // All events, once the last has come.
  std::vector<StreamEvent> Await() {
    base::MutexLock lock(mutex_);
    while (!ended_) changed_.Wait(mutex_);
    return events_;
  }

 private:
  void Read() {
    base::MutexLock lock(mutex_);
    for (StreamEvent& event : stream_->Take()) {
      EXPECT_FALSE(ended_) << "an event after the last";
      ended_ = std::holds_alternative<FinishedEvent>(event) ||
               std::holds_alternative<FailedEvent>(event);
      events_.push_back(std::move(event));
    }
    if (ended_) changed_.NotifyAll();
  }

  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<StreamEvent> events_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  const std::shared_ptr<TokenStream> stream_;
};

class EngineTest : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> MakeEngine(const EngineLimits& limits) {
    return std::make_unique<Engine>(
        Engine::Options{.limits = limits, .runner = &runner_, .metrics = &metrics_.engine()});
  }

  // Called on the engine thread before each step.
  std::function<void()> on_run_;
  TestMetrics metrics_;
  testing::FakeModelRunner runner_{{.num_kv_blocks = 64,
                                    .next_token = CountTokens,
                                    .on_run = [this](absl::Span<const model::SequenceStep>) {
                                      if (on_run_) on_run_();
                                    }}};
};

TEST_F(EngineTest, WakesForEveryRequest) {
  const auto engine = MakeEngine({.max_context = 100});
  BlockingReader early;
  ASSERT_TRUE(engine->Submit(MakeRequest("early", 2, 2), early.stream()).ok());
  engine->Start();
  EXPECT_EQ(Describe(early.Await()), "started 2 3 length");
  for (int i = 0; i < 500; ++i) {
    BlockingReader reader;
    ASSERT_TRUE(engine->Submit(MakeRequest("a", 2, 2), reader.stream()).ok());
    ASSERT_EQ(Describe(reader.Await()), "started 2 3 length");
  }
}

TEST_F(EngineTest, SurvivesManyClientsAtOnce) {
  constexpr int kClients = 6;
  constexpr int kRequests = 150;
  // Everything is scarce: places, queue and blocks.
  const auto engine =
      MakeEngine({.max_waiting_requests = 3, .max_running_requests = 2, .max_context = 600});
  engine->Start();
  std::atomic<int> num_refused{0};
  std::atomic<int> num_cancelled{0};
  std::atomic<bool> done{false};

  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      for (int i = 0; i < kRequests; ++i) {
        const std::string id = absl::StrCat(c, "-", i);
        // Every third is cancelled by its own client at once, at whatever point it then is.
        const int max_tokens = i % 3 == 0 ? 500 : 5;
        BlockingReader reader;
        absl::Status status;
        while (!(status = engine->Submit(MakeRequest(id, 40, max_tokens), reader.stream())).ok()) {
          ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
          ASSERT_GT(engine->RetryDelay(), absl::ZeroDuration());
          ++num_refused;
          std::this_thread::yield();
        }
        if (i % 3 == 0) engine->Cancel(id).IgnoreError();
        const std::string words = Describe(reader.Await());
        if (absl::EndsWith(words, "CANCELLED")) {
          ++num_cancelled;
        } else if (i % 3 != 0) {
          ASSERT_EQ(words, "started 40 41 42 43 44 length");
        }
      }
    });
  }
  std::thread canceller([&] {
    for (int i = 0; !done; i = (i + 7) % kRequests) {
      for (int c = 0; c < kClients; ++c) engine->Cancel(absl::StrCat(c, "-", i)).IgnoreError();
      std::this_thread::yield();
    }
  });
  std::thread observer([&] {
    while (!done) {
      const EngineLoad load = engine->Load();
      ASSERT_LE(load.waiting_requests, 3 + 2);  // in the queue, and preempted
      ASSERT_LE(load.running_requests, 2);
      ASSERT_LE(load.waiting_requests + load.running_requests, kClients);
      ASSERT_EQ(load.total_kv_blocks, 64);
      ASSERT_LE(load.free_kv_blocks + load.cached_kv_blocks, 64);
      // A running request holds blocks, and only running ones do.
      ASSERT_EQ(load.running_requests == 0, load.used_kv_blocks() == 0);
      std::this_thread::yield();
    }
  });
  for (std::thread& client : clients) client.join();
  done = true;
  canceller.join();
  observer.join();
  EXPECT_GT(num_refused, 0);
  EXPECT_GT(num_cancelled, 0);
  const EngineLoad load = engine->Load();
  EXPECT_EQ(load.waiting_requests + load.running_requests, 0);
  EXPECT_EQ(load.free_kv_blocks + load.cached_kv_blocks, 64);
}

TEST_F(EngineTest, StopsWhileBusy) {
  const auto engine =
      MakeEngine({.max_waiting_requests = 9, .max_running_requests = 2, .max_context = 300});
  // The third step lasts until Stop has been called.
  int num_runs = 0;
  std::atomic<bool> is_busy{false};
  on_run_ = [&] {
    if (++num_runs < 3) return;
    is_busy = true;
    const auto probe = std::make_shared<TokenStream>([] {});
    while (engine->Submit(MakeRequest("running0", 1, 1), probe).code() !=
           absl::StatusCode::kUnavailable) {
      std::this_thread::yield();
    }
  };
  std::vector<BlockingReader> readers(5);
  for (int i = 0; i < 5; ++i) {
    const std::string id = absl::StrCat(i < 2 ? "running" : "waiting", i);
    ASSERT_TRUE(engine->Submit(MakeRequest(id, 3, 250), readers[i].stream()).ok());
  }
  engine->Start();
  while (!is_busy) std::this_thread::yield();
  std::thread other_stopper([&] { engine->Stop(); });
  engine->Stop();
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Describe(readers[i].Await()), i < 2 ? "started 3 4 5 UNAVAILABLE" : "UNAVAILABLE");
  }
  other_stopper.join();
  EXPECT_EQ(num_runs, 3);
  EXPECT_EQ(engine->Load().used_kv_blocks(), 0);
  EXPECT_EQ(engine->Submit(MakeRequest("late", 1, 1), readers[0].stream()).code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(EngineTest, StoppedBeforeItStartedItEndsItsRequestsAllTheSame) {
  BlockingReader reader;
  {
    const auto engine = MakeEngine({.max_context = 100});
    ASSERT_TRUE(engine->Submit(MakeRequest("a", 2, 2), reader.stream()).ok());
    engine->Stop();
    engine->Start();
  }
  EXPECT_EQ(Describe(reader.Await()), "UNAVAILABLE");
}

TEST_F(EngineTest, StopsWhileAsleep) {
  const auto engine = MakeEngine({.max_context = 100});
  engine->Start();
  engine->Stop();
  engine->Stop();
  BlockingReader reader;
  EXPECT_EQ(engine->Submit(MakeRequest("late", 2, 2), reader.stream()).code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sluice::scheduler
