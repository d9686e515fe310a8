#include "cli/load_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "fake_server.h"

namespace sluice::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

v1::GenerateRequest NumberedRequest(int64_t i) {
  v1::GenerateRequest request;
  request.set_text(absl::StrCat(i));
  return request;
}

// Stands still until it is moved.
class ManualClock : public base::Clock {
 public:
  absl::Time Now() const override {
    base::MutexLock lock(mutex_);
    return now_;
  }
  void Advance(absl::Duration duration) {
    base::MutexLock lock(mutex_);
    now_ += duration;
  }

 private:
  mutable base::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::UnixEpoch();
};

// How many calls are inside a handler.
class Crowd {
 public:
  void Enter() {
    base::MutexLock lock(mutex_);
    largest_ = std::max(largest_, ++inside_);
    changed_.NotifyAll();
  }
  void Leave() {
    base::MutexLock lock(mutex_);
    --inside_;
  }
  // Waits until there have been `count` at a time.
  void WaitFor(int count) {
    base::MutexLock lock(mutex_);
    while (largest_ < count) changed_.Wait(mutex_);
  }
  int largest() {
    base::MutexLock lock(mutex_);
    return largest_;
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  int inside_ ABSL_GUARDED_BY(mutex_) = 0;
  int largest_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST(LoadGeneratorTest, ClosedLoopSendsAllRequestsAndKeepsToItsConcurrency) {
  client::FakeServer server;
  Crowd crowd;
  server.OnGenerate([&](const v1::GenerateRequest& request, client::EventWriter& writer) {
    crowd.Enter();
    // None of the first four is answered before all of them are there.
    crowd.WaitFor(4);
    crowd.Leave();
    return client::SayHello(request, writer);
  });
  const client::Client client(server.address());
  const LoadReport report =
      RunLoad(client, {.num_requests = 30, .max_in_flight = 4}, {}, NumberedRequest);
  EXPECT_EQ(report.num_ok, 30);
  EXPECT_TRUE(report.failed.empty());
  EXPECT_EQ(report.prompt_tokens, 30 * 5);
  EXPECT_EQ(report.generated_tokens, 30 * 2);
  EXPECT_EQ(report.first_token.count(), 30);
  EXPECT_EQ(report.latency.count(), 30);
  EXPECT_EQ(report.inter_token.count(), 30);
  EXPECT_EQ(crowd.largest(), 4);

  std::vector<int> numbers;
  for (const v1::GenerateRequest& request : server.requests()) {
    numbers.push_back(std::stoi(request.text()));
  }
  std::sort(numbers.begin(), numbers.end());
  for (int i = 0; i < 30; ++i) EXPECT_EQ(numbers[i], i);
}

TEST(LoadGeneratorTest, OpenLoopDoesNotWaitForAnswers) {
  client::FakeServer server;
  Crowd crowd;
  server.OnGenerate([&](const v1::GenerateRequest& request, client::EventWriter& writer) {
    crowd.Enter();
    // Nobody is answered before everybody is there.
    crowd.WaitFor(12);
    return client::SayHello(request, writer);
  });
  const client::Client client(server.address());
  const LoadPlan plan{.arrivals = std::vector<absl::Duration>(12), .max_in_flight = 100};
  EXPECT_EQ(RunLoad(client, plan, {}, NumberedRequest).num_ok, 12);
}

// Ten seconds pass between started and first token, and one between the two tokens. All three
// requests are meant to start at once but only one may run at a time, so the second and third pay
// for those before them.
TEST(LoadGeneratorTest, OpenLoopCountsTimesFromTheIntendedStart) {
  client::FakeServer server;
  ManualClock clock;
  // The clock is moved only when all has been read that was written before.
  server.OnGenerate([&](const v1::GenerateRequest&, client::EventWriter& writer) {
    clock.Advance(absl::Seconds(10));
    v1::GenerateResponse three = client::DeltaEvent("a");
    writer.Write(three);
    return grpc::Status::OK;
  });
  const client::Client client(server.address());
  const LoadPlan plan{.arrivals = std::vector<absl::Duration>(3), .max_in_flight = 1};
  const LoadReport report = RunLoad(client, plan, {}, NumberedRequest, clock);
  EXPECT_EQ(report.num_ok, 3);
  EXPECT_EQ(report.elapsed, absl::Seconds(30));
  EXPECT_EQ(report.latency.Mean(), absl::Seconds(20));
  EXPECT_EQ(report.latency.Max(), absl::Seconds(30));
  EXPECT_EQ(report.first_token.Mean(), absl::Seconds(20));
  EXPECT_EQ(report.send_delay.Mean(), absl::Seconds(10));
  EXPECT_EQ(report.send_delay.Max(), absl::Seconds(20));
}

TEST(LoadGeneratorTest, ClosedLoopCountsTimesFromTheRealStart) {
  client::FakeServer server;
  ManualClock clock;
  server.OnGenerate([&](const v1::GenerateRequest& request, client::EventWriter& writer) {
    clock.Advance(absl::Seconds(10));
    return client::SayHello(request, writer);
  });
  const client::Client client(server.address());
  const LoadReport report = RunLoad(client, {.num_requests = 3}, {}, NumberedRequest, clock);
  EXPECT_EQ(report.latency.Mean(), absl::Seconds(10));
  EXPECT_EQ(report.latency.Max(), absl::Seconds(10));
  EXPECT_EQ(report.send_delay.Max(), absl::ZeroDuration());
}

TEST(LoadGeneratorTest, CountsFailuresByStatusAndLeavesThemOutOfTheTimes) {
  client::FakeServer server;
  server.OnGenerate([](const v1::GenerateRequest& request, client::EventWriter& writer) {
    const int i = std::stoi(request.text());
    if (i % 2 == 0) return client::SayHello(request, writer);
    writer.Write(client::DeltaEvent("lost"));
    return i % 3 == 0 ? grpc::Status(grpc::StatusCode::INTERNAL, "broken")
                      : grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  });
  const client::Client client(server.address());
  const LoadReport report = RunLoad(client, {.num_requests = 10}, {}, NumberedRequest);
  EXPECT_EQ(report.num_ok, 5);
  EXPECT_THAT(report.failed, ElementsAre(Pair(absl::StatusCode::kResourceExhausted, 3),
                                         Pair(absl::StatusCode::kInternal, 2)));
  EXPECT_EQ(report.first_error, absl::ResourceExhaustedError("full"));
  EXPECT_EQ(report.generated_tokens, 10);
  EXPECT_EQ(report.latency.count(), 5);
  EXPECT_EQ(report.first_token.count(), 5);
}

}  // namespace
}  // namespace sluice::cli
