#include "api/text_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "api/active_calls.h"
#include "api/model_slot.h"

namespace sluice::api {
namespace {

TEST(TextThreadTest, RunsInOrderAndFinishesWhatWaits) {
  std::vector<int> order;
  {
    TextThread thread(100);
    for (int i = 0; i < 50; ++i) EXPECT_TRUE(thread.Run([&order, i] { order.push_back(i); }));
  }
  ASSERT_EQ(order.size(), 50u);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(order[i], i);
}

TEST(TextThreadTest, SaysNoAtOnceWhenTooManyWait) {
  std::promise<void> running, gate;
  const std::shared_future<void> opened = gate.get_future().share();
  TextThread thread(2);
  EXPECT_TRUE(thread.Run([&] {
    running.set_value();
    opened.wait();
  }));
  running.get_future().wait();
  EXPECT_TRUE(thread.Run([] {}));
  EXPECT_TRUE(thread.Run([] {}));
  EXPECT_FALSE(thread.Run([] {}));
  gate.set_value();
}

TEST(TextThreadTest, TakesFunctionsFromManyThreads) {
  std::atomic<int> sum{0};
  {
    TextThread thread(1000);
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
      callers.emplace_back([&] {
        for (int n = 0; n < 100; ++n) EXPECT_TRUE(thread.Run([&] { ++sum; }));
      });
    }
    for (std::thread& caller : callers) caller.join();
  }
  EXPECT_EQ(sum, 400);
}

TEST(ActiveCallsTest, WaitsForTheLastTicket) {
  ActiveCalls calls(1);
  EXPECT_EQ(calls.WaitUntilNone(absl::ZeroDuration()), 0);
  auto ticket = std::make_unique<ActiveCalls::Ticket>(calls);
  EXPECT_EQ(calls.WaitUntilNone(absl::ZeroDuration()), 1);
  std::thread ending([&] { ticket.reset(); });
  EXPECT_EQ(calls.WaitUntilNone(absl::InfiniteDuration()), 0);
  ending.join();
}

TEST(ActiveCallsTest, IsOverfullFromOneMoreThanItsLimitOn) {
  ActiveCalls calls(2);
  const ActiveCalls::Ticket first(calls);
  const ActiveCalls::Ticket second(calls);
  EXPECT_FALSE(calls.Overfull());
  {
    const ActiveCalls::Ticket third(calls);
    EXPECT_TRUE(calls.Overfull());
  }
  EXPECT_FALSE(calls.Overfull());
}

TEST(ModelSlotTest, IsSeenByOtherThreadsOnceItIsPublished) {
  ModelSlot slot;
  ServedModel model;
  model.facts.name = "m";
  EXPECT_EQ(slot.ForReading().status().code(), absl::StatusCode::kUnavailable);
  std::thread reader([&] {
    while (!slot.ForWork().ok()) std::this_thread::yield();
    EXPECT_EQ((*slot.ForWork())->facts.name, "m");
  });
  slot.Publish(&model);
  reader.join();
  slot.Drain();
  EXPECT_EQ(slot.phase(), ModelSlot::Phase::kDraining);
  EXPECT_EQ(slot.ForWork().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(slot.ForReading().ok());
}

}  // namespace
}  // namespace sluice::api
