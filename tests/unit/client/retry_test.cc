#include "client/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "client/client.h"
#include "client/retry_timer.h"
#include "fake_server.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sluice::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kNever = absl::InfiniteDuration();

TEST(RetryDelayTest, FollowsTheTable) {
  struct Case {
    const char* name;
    Attempt attempt;
    std::optional<absl::Duration> expected;
    double random = 0.5;
  };
  constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
  constexpr auto kUnavailable = absl::StatusCode::kUnavailable;
  const auto s = [](double seconds) { return absl::Seconds(seconds); };
  const std::vector<Case> cases = {
      {"refused with a hint", {1, kExhausted, s(2), false, kNever}, s(2.2)},
      {"never before the hint", {1, kExhausted, s(2), false, kNever}, s(2), 0},
      {"at once, if that is the hint", {1, kExhausted, s(0), false, kNever}, s(0)},
      {"refused without a hint", {1, kExhausted, std::nullopt, false, kNever}, std::nullopt},
      {"not wanted again", {1, kExhausted, s(-1), false, kNever}, std::nullopt},
      {"unavailable", {1, kUnavailable, std::nullopt, false, kNever}, s(1)},
      {"unavailable, spread below", {1, kUnavailable, std::nullopt, false, kNever}, s(0.8), 0},
      {"unavailable, second", {2, kUnavailable, std::nullopt, false, kNever}, s(2)},
      {"unavailable, third", {3, kUnavailable, std::nullopt, false, kNever}, s(4)},
      {"unavailable, at most", {8, kUnavailable, std::nullopt, false, kNever}, s(5)},
      {"unavailable with a hint", {3, kUnavailable, s(9), false, kNever}, s(9), 0},
      {"unavailable, not wanted again", {1, kUnavailable, s(-1), false, kNever}, std::nullopt},
      {"the last attempt", {9, kUnavailable, std::nullopt, false, kNever}, std::nullopt},
      {"after an event", {1, kUnavailable, std::nullopt, true, kNever}, std::nullopt},
      {"refused after an event", {1, kExhausted, s(1), true, kNever}, std::nullopt},
      {"other codes", {1, absl::StatusCode::kInternal, s(1), false, kNever}, std::nullopt},
      {"cancelled", {1, absl::StatusCode::kCancelled, std::nullopt, false, kNever}, std::nullopt},
      {"a hint beyond the deadline", {1, kExhausted, s(2), false, s(1.9)}, std::nullopt},
      {"a hint just within", {1, kExhausted, s(2), false, s(2.5)}, s(2.2)},
      {"a hint within, its spread beyond", {1, kExhausted, s(2), false, s(2.1)}, s(2)},
      {"a hint of more than an hour", {1, kExhausted, s(3601), false, kNever}, std::nullopt},
      {"a delay beyond the deadline", {1, kUnavailable, std::nullopt, false, s(0.5)}, std::nullopt},
      {"no time left", {1, kExhausted, s(0), false, s(0)}, std::nullopt},
  };
  const RetryPolicy policy{.max_attempts = 9, .initial_backoff = s(1), .max_backoff = s(5)};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(RetryDelay(policy, c.attempt, c.random), c.expected);
  }
  EXPECT_EQ(RetryDelay({}, {1, kUnavailable}, 0), std::nullopt)
      << "by default there is one attempt";
}

// Time passes only where a call waits, or stands still and lets it wait for ever.
class FakeTimer final : public RetryTimer {
 public:
  explicit FakeTimer(bool stands_still = false) : stands_still_(stands_still) {}

  absl::Time Now() const override {
    base::MutexLock lock(mutex_);
    return now_;
  }
  double Random() override { return 0; }
  std::shared_ptr<Wait> Start(absl::Duration delay, std::function<void()> done) override {
    auto wait = std::make_shared<FakeWait>(std::move(done));
    {
      base::MutexLock lock(mutex_);
      delays_.push_back(delay);
      if (!stands_still_) now_ += delay;
      changed_.NotifyAll();
    }
    if (!stands_still_) wait->Cancel();
    return wait;
  }

  std::vector<absl::Duration> delays() const {
    base::MutexLock lock(mutex_);
    return delays_;
  }
  // Waits until a call waits.
  void AwaitWait() {
    base::MutexLock lock(mutex_);
    while (delays_.empty()) changed_.Wait(mutex_);
  }

 private:
  class FakeWait final : public Wait {
   public:
    explicit FakeWait(std::function<void()> done) : done_(std::move(done)) {}
    void Cancel() override {
      if (!ended_.exchange(true)) std::exchange(done_, nullptr)();
    }

   private:
    std::atomic<bool> ended_{false};
    std::function<void()> done_;
  };

  const bool stands_still_;
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'000'000'000);
  std::vector<absl::Duration> delays_ ABSL_GUARDED_BY(mutex_);
};

v1::GenerateRequest TextRequest() {
  v1::GenerateRequest request;
  request.set_text("hi");
  return request;
}

enum class Way { kBlocking, kStarted };

// How a call went, made the one way or the other.
struct Outcome {
  absl::Status status;
  int num_events = 0;
};

Outcome Generate(Way way, const FakeServer& server, const CallOptions& options) {
  const Client client(server.address());
  Outcome outcome;
  if (way == Way::kBlocking) {
    outcome.status =
        client.Generate(TextRequest(), options, [&](const auto&) { ++outcome.num_events; });
    return outcome;
  }
  std::promise<absl::Status> done;
  client.StartGenerate(
      TextRequest(), options, [&](const auto&) { ++outcome.num_events; },
      [&](const absl::Status& status) { done.set_value(status); });
  outcome.status = done.get_future().get();
  return outcome;
}

class RetryTest : public ::testing::TestWithParam<Way> {
 protected:
  // The first `count` calls end so, all others well.
  void FailFirst(int count, std::function<grpc::Status(grpc::ServerContext&)> failure) {
    server_.OnGenerateCall(
        [this, count, failure = std::move(failure)](
            grpc::ServerContext& context, const v1::GenerateRequest& request, EventWriter& writer) {
          return calls_++ < count ? failure(context) : SayHello(request, writer);
        });
  }
  static std::function<grpc::Status(grpc::ServerContext&)> Refuse(const std::string& pushback) {
    return [pushback](grpc::ServerContext& context) {
      context.AddTrailingMetadata("grpc-retry-pushback-ms", pushback);
      return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
    };
  }
  CallOptions Options(int max_attempts) {
    CallOptions options;
    options.retry.max_attempts = max_attempts;
    options.retry.timer = &timer_;
    options.retry.on_retry = [this](const Retry& retry) { retries_.push_back(retry); };
    return options;
  }

  FakeServer server_;
  FakeTimer timer_;
  std::atomic<int> calls_{0};
  std::vector<Retry> retries_;
};

INSTANTIATE_TEST_SUITE_P(BothWays, RetryTest, ::testing::Values(Way::kBlocking, Way::kStarted),
                         [](const auto& way) {
                           return way.param == Way::kBlocking ? "Blocking" : "Started";
                         });

TEST_P(RetryTest, ComesBackWhenTheServerSays) {
  FailFirst(2, Refuse("300"));
  const Outcome outcome = Generate(GetParam(), server_, Options(4));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.num_events, 4);
  EXPECT_EQ(server_.requests().size(), 3u);
  EXPECT_EQ(server_.requests()[2].text(), "hi");
  EXPECT_THAT(timer_.delays(), ElementsAre(absl::Milliseconds(300), absl::Milliseconds(300)));
  ASSERT_EQ(retries_.size(), 2u);
  EXPECT_EQ(retries_[1].attempt, 2);
  EXPECT_EQ(retries_[1].status, absl::ResourceExhaustedError("full"));
  EXPECT_EQ(retries_[1].delay, absl::Milliseconds(300));
}

TEST_P(RetryTest, ReadsTheHintFromTheDetailsAsWell) {
  FailFirst(1, [](grpc::ServerContext&) {
    google::rpc::RetryInfo info;
    info.mutable_retry_delay()->set_seconds(7);
    info.mutable_retry_delay()->set_nanos(500'000'000);
    google::rpc::Status details;
    details.add_details()->PackFrom(info);
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full", details.SerializeAsString());
  });
  EXPECT_TRUE(Generate(GetParam(), server_, Options(2)).status.ok());
  EXPECT_THAT(timer_.delays(), ElementsAre(absl::Milliseconds(7500)));
}

TEST_P(RetryTest, StopsAfterItsAttempts) {
  FailFirst(std::numeric_limits<int>::max(), [](grpc::ServerContext&) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "loading");
  });
  EXPECT_EQ(Generate(GetParam(), server_, Options(3)).status, absl::UnavailableError("loading"));
  EXPECT_EQ(server_.requests().size(), 3u);
  EXPECT_THAT(timer_.delays(), ElementsAre(absl::Milliseconds(80), absl::Milliseconds(160)));
}

TEST_P(RetryTest, TriesOnceUnlessToldOtherwise) {
  FailFirst(1, Refuse("1"));
  EXPECT_EQ(Generate(GetParam(), server_, Options(1)).status, absl::ResourceExhaustedError("full"));
  EXPECT_EQ(server_.requests().size(), 1u);
}

TEST_P(RetryTest, NeverRepeatsAnAnswerThatHasBegun) {
  server_.OnGenerate([](const auto&, EventWriter& writer) {
    writer.Write(StartedEvent());
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "stopping");
  });
  const Outcome outcome = Generate(GetParam(), server_, Options(5));
  EXPECT_EQ(outcome.status, absl::UnavailableError("stopping"));
  EXPECT_EQ(outcome.num_events, 1);
  EXPECT_EQ(server_.requests().size(), 1u);
}

TEST_P(RetryTest, DoesNotComeBackWithoutAHintOrWhereItIsNotWanted) {
  for (const char* pushback : {"-1", "soon", ""}) {
    FailFirst(std::numeric_limits<int>::max(), Refuse(pushback));
    EXPECT_TRUE(absl::IsResourceExhausted(Generate(GetParam(), server_, Options(5)).status));
  }
  FailFirst(std::numeric_limits<int>::max(), [](grpc::ServerContext&) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "message too large");
  });
  EXPECT_TRUE(absl::IsResourceExhausted(Generate(GetParam(), server_, Options(5)).status));
  EXPECT_EQ(server_.requests().size(), 4u);
  EXPECT_THAT(timer_.delays(), IsEmpty());
}

TEST_P(RetryTest, AHintBeyondTheDeadlineEndsTheCallAtOnce) {
  FailFirst(std::numeric_limits<int>::max(), Refuse("4000"));
  CallOptions options = Options(5);
  options.timeout = absl::Seconds(10);
  // After two waits of four seconds there is no time for a third.
  EXPECT_EQ(Generate(GetParam(), server_, options).status, absl::ResourceExhaustedError("full"));
  EXPECT_EQ(server_.requests().size(), 3u);
  EXPECT_THAT(timer_.delays(), ElementsAre(absl::Seconds(4), absl::Seconds(4)));
}

TEST_P(RetryTest, ACallThatWaitsCanBeCancelled) {
  FailFirst(1, Refuse("60000"));
  FakeTimer timer(/*stands_still=*/true);
  Cancellation cancellation;
  CallOptions options = Options(5);
  options.retry.timer = &timer;
  options.cancellation = &cancellation;
  auto outcome =
      std::async(std::launch::async, [&] { return Generate(GetParam(), server_, options); });
  timer.AwaitWait();
  cancellation.Cancel();
  EXPECT_TRUE(absl::IsCancelled(outcome.get().status));
  EXPECT_EQ(server_.requests().size(), 1u);
}

TEST(RetryUnaryTest, UnaryCallsAreTriedAgainToo) {
  FakeServer server;
  server.load.set_running_requests(4);
  FakeTimer timer;
  const Client client(server.address());
  CallOptions options;
  options.retry = {.max_attempts = 3, .timer = &timer};
  server.load_failures = 2;
  EXPECT_EQ(client.GetLoad(options)->running_requests(), 4);
  server.load_failures = 3;
  EXPECT_EQ(client.GetLoad(options).status(), absl::UnavailableError("not now"));
  EXPECT_EQ(timer.delays().size(), 4u);
}

TEST(RetryTimerTest, TheSystemsTimerEndsWhenTimeIsOverOrCancelled) {
  std::promise<void> over;
  const auto wait = RetryTimer::System().Start(absl::Milliseconds(1), [&] { over.set_value(); });
  over.get_future().wait();
  std::promise<void> cancelled;
  const auto long_wait = RetryTimer::System().Start(absl::Hours(1), [&] { cancelled.set_value(); });
  long_wait->Cancel();
  cancelled.get_future().wait();
  long_wait->Cancel();
  EXPECT_GE(RetryTimer::System().Random(), 0);
  EXPECT_LT(RetryTimer::System().Random(), 1);
}

}  // namespace
}  // namespace sluice::client
