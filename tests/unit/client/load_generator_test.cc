#include "cli/load_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "support/manual_clock.h"

namespace sluice::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

using OnEvent = std::function<void(const v1::GenerateResponse&)>;

v1::GenerateResponse Delta(int num_tokens) {
  v1::GenerateResponse event;
  for (int i = 0; i < num_tokens; ++i) event.mutable_delta()->add_token_ids(i);
  return event;
}

v1::GenerateResponse Finished(int prompt_tokens, int generated_tokens) {
  v1::GenerateResponse event;
  v1::Usage& usage = *event.mutable_finished()->mutable_usage();
  usage.set_prompt_tokens(prompt_tokens);
  usage.set_generated_tokens(generated_tokens);
  return event;
}

// Answers each call on a thread of its own.
class Answerer {
 public:
  using Handler = std::function<absl::Status(int64_t i, const OnEvent& on_event)>;

  explicit Answerer(Handler handler) : handler_(std::move(handler)) {}
  ~Answerer() {
    for (std::thread& thread : threads_) thread.join();
  }

  StartCall start_call() {
    return [this](int64_t i, auto on_event, auto on_done) {
      started_.push_back(i);
      threads_.emplace_back([this, i, on_event, on_done] { on_done(handler_(i, on_event)); });
    };
  }

  const std::vector<int64_t>& started() const { return started_; }

 private:
  const Handler handler_;
  std::vector<int64_t> started_;
  std::vector<std::thread> threads_;
};

// How many calls are being answered.
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

TEST(LoadGeneratorTest, ClosedLoopStartsEveryCallAndKeepsToItsConcurrency) {
  Crowd crowd;
  Answerer answerer([&](int64_t, const OnEvent& on_event) {
    crowd.Enter();
    // None of the first four is answered before all of them are there.
    crowd.WaitFor(4);
    on_event(Delta(1));
    on_event(Delta(1));
    on_event(Finished(5, 2));
    crowd.Leave();
    return absl::OkStatus();
  });
  const LoadReport report =
      RunLoad({.num_requests = 30, .max_in_flight = 4}, answerer.start_call());
  EXPECT_EQ(report.num_requests, 30);
  EXPECT_EQ(report.num_ok, 30);
  EXPECT_THAT(report.failed, IsEmpty());
  EXPECT_EQ(report.prompt_tokens, 30 * 5);
  EXPECT_EQ(report.generated_tokens, 30 * 2);
  EXPECT_EQ(report.first_token.count(), 30);
  EXPECT_EQ(report.latency.count(), 30);
  EXPECT_EQ(report.inter_token.count(), 30);
  EXPECT_EQ(crowd.largest(), 4);
  ASSERT_EQ(answerer.started().size(), 30u);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(answerer.started()[i], i);
}

TEST(LoadGeneratorTest, OpenLoopDoesNotWaitForAnswers) {
  Crowd crowd;
  Answerer answerer([&](int64_t, const OnEvent&) {
    crowd.Enter();
    // Nobody is answered before everybody is there.
    crowd.WaitFor(12);
    return absl::OkStatus();
  });
  const LoadPlan plan{.arrivals = std::vector<absl::Duration>(12), .max_in_flight = 100};
  EXPECT_EQ(RunLoad(plan, answerer.start_call()).num_ok, 12);
}

// Each call takes 17 seconds: ten to its first token, one to the second, six to three more that
// come together.
absl::Status AnswerSlowly(sluice::testing::ManualClock& clock, const OnEvent& on_event) {
  clock.Advance(absl::Seconds(10));
  on_event(Delta(1));
  clock.Advance(absl::Seconds(1));
  on_event(Delta(1));
  // Withheld text: no token came.
  on_event(Delta(0));
  clock.Advance(absl::Seconds(6));
  on_event(Delta(3));
  on_event(Finished(7, 5));
  return absl::OkStatus();
}

// All three are meant to start at once, but only one may run at a time: the second and the third
// pay for those before them.
TEST(LoadGeneratorTest, OpenLoopCountsTimesFromTheIntendedStart) {
  sluice::testing::ManualClock clock;
  Answerer answerer(
      [&](int64_t, const OnEvent& on_event) { return AnswerSlowly(clock, on_event); });
  const LoadPlan plan{.arrivals = std::vector<absl::Duration>(3), .max_in_flight = 1};
  const LoadReport report = RunLoad(plan, answerer.start_call(), clock);
  EXPECT_EQ(report.num_ok, 3);
  EXPECT_EQ(report.elapsed, absl::Seconds(3 * 17));
  EXPECT_EQ(report.latency.Mean(), absl::Seconds(2 * 17));
  EXPECT_EQ(report.latency.Max(), absl::Seconds(3 * 17));
  EXPECT_EQ(report.first_token.Mean(), absl::Seconds(17 + 10));
  EXPECT_EQ(report.first_token.Max(), absl::Seconds(2 * 17 + 10));
  EXPECT_EQ(report.send_delay.Mean(), absl::Seconds(17));
  EXPECT_EQ(report.send_delay.Max(), absl::Seconds(2 * 17));
}

TEST(LoadGeneratorTest, ClosedLoopCountsTimesFromTheRealStart) {
  sluice::testing::ManualClock clock;
  Answerer answerer(
      [&](int64_t, const OnEvent& on_event) { return AnswerSlowly(clock, on_event); });
  const LoadReport report = RunLoad({.num_requests = 3}, answerer.start_call(), clock);
  EXPECT_EQ(report.latency.Mean(), absl::Seconds(17));
  EXPECT_EQ(report.first_token.Max(), absl::Seconds(10));
  EXPECT_EQ(report.send_delay.Max(), absl::ZeroDuration());
}

TEST(LoadGeneratorTest, TokensThatComeTogetherShareTheirTime) {
  sluice::testing::ManualClock clock;
  Answerer answerer(
      [&](int64_t, const OnEvent& on_event) { return AnswerSlowly(clock, on_event); });
  const LoadReport report = RunLoad({.num_requests = 1}, answerer.start_call(), clock);
  // 1, 2, 2 and 2 seconds.
  EXPECT_EQ(report.inter_token.count(), 4);
  EXPECT_EQ(report.inter_token.Max(), absl::Seconds(2));
  EXPECT_EQ(report.inter_token.Mean(), absl::Seconds(7) / 4);
}

TEST(LoadGeneratorTest, CountsFailuresByStatusAndLeavesThemOutOfTheRest) {
  Answerer answerer([](int64_t i, const OnEvent& on_event) {
    on_event(Delta(1));
    if (i % 2 == 0) {
      on_event(Finished(5, 1));
      return absl::OkStatus();
    }
    return i % 3 == 0 ? absl::InternalError("broken") : absl::ResourceExhaustedError("full");
  });
  const LoadReport report = RunLoad({.num_requests = 10}, answerer.start_call());
  EXPECT_EQ(report.num_ok, 5);
  EXPECT_THAT(report.failed, ElementsAre(Pair(absl::StatusCode::kResourceExhausted, 3),
                                         Pair(absl::StatusCode::kInternal, 2)));
  EXPECT_EQ(report.first_error, absl::ResourceExhaustedError("full"));
  EXPECT_EQ(report.generated_tokens, 5);
  EXPECT_EQ(report.latency.count(), 5);
  EXPECT_EQ(report.first_token.count(), 5);
}

TEST(LoadGeneratorTest, RefusalsAreThoseWithoutAnyEventAndHaveTimesOfTheirOwn) {
  sluice::testing::ManualClock clock;
  Answerer answerer([&](int64_t i, const OnEvent& on_event) {
    clock.Advance(absl::Seconds(i + 1));
    if (i == 2) on_event(Delta(1));
    return absl::ResourceExhaustedError("full");
  });
  const LoadReport report = RunLoad({.num_requests = 3}, answerer.start_call(), clock);
  EXPECT_EQ(report.num_refused, 2);
  EXPECT_EQ(report.refusal.count(), 2);
  EXPECT_EQ(report.refusal.Max(), absl::Seconds(2));
  EXPECT_THAT(report.failed, ElementsAre(Pair(absl::StatusCode::kResourceExhausted, 3)));
}

TEST(LoadGeneratorTest, TheSameCallsAreCancelledForTheSameSeed) {
  const CancelPlan plan{.share = 0.2, .within = absl::Seconds(3), .seed = 5};
  const CancelPlan other{.share = 0.2, .within = absl::Seconds(3), .seed = 6};
  int cancelled = 0;
  int different = 0;
  absl::Duration total;
  for (int i = 0; i < 10'000; ++i) {
    const auto time = plan.TimeOf(i);
    EXPECT_EQ(time, plan.TimeOf(i));
    different += time != other.TimeOf(i);
    if (!time) continue;
    ++cancelled;
    total += *time;
    EXPECT_GE(*time, absl::ZeroDuration());
    EXPECT_LT(*time, absl::Seconds(3));
  }
  // Five standard deviations.
  EXPECT_NEAR(cancelled, 2000, 200);
  EXPECT_NEAR(absl::ToDoubleSeconds(total) / cancelled, 1.5, 0.1);
  EXPECT_GT(different, 1000);
  EXPECT_EQ(CancelPlan{}.TimeOf(1), std::nullopt);
  EXPECT_TRUE((CancelPlan{.share = 1}.TimeOf(1).has_value()));
}

}  // namespace
}  // namespace sluice::cli
