#include "scheduler/token_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "test_engine.h"

namespace sluice::scheduler {
namespace {

TEST(TokenStreamTest, WakesTheReaderOnceUntilAllIsTaken) {
  Reader reader;
  reader.stream()->Put({StartedEvent{}});
  reader.stream()->Put({TokenEvent{.token = 4}, TokenEvent{.token = 5}});
  EXPECT_EQ(reader.num_wakes(), 1);
  EXPECT_EQ(reader.words(), "started 4 5");
  EXPECT_EQ(reader.num_wakes(), 1);
  reader.stream()->Put({FinishedEvent{.reason = FinishReason::kLength}});
  EXPECT_EQ(reader.num_wakes(), 2);
  EXPECT_EQ(reader.words(), "started 4 5 length");
  EXPECT_TRUE(reader.stream()->Take().empty());
}

TEST(TokenStreamTest, NothingPutWakesNobody) {
  Reader reader;
  reader.stream()->Put({});
  EXPECT_EQ(reader.num_wakes(), 0);
}

TEST(TokenStreamTest, TheReaderMayTakeWithinOnReadable) {
  std::string words;
  TokenStream* self = nullptr;
  TokenStream stream([&] { words += Describe(self->Take()) + ";"; });
  self = &stream;
  stream.Put({StartedEvent{}});
  stream.Put({TokenEvent{.token = 7}, FinishedEvent{}});
  EXPECT_EQ(words, "started;7 stop_token;");
}

// A reader that takes only when it is woken, on a thread of its own, gets every event in order.
TEST(TokenStreamTest, AReaderThatGoesByWakesMissesNothing) {
  constexpr int kTokens = 20'000;
  std::atomic<int> wakes{0};
  TokenStream stream([&] { ++wakes; });
  std::thread writer([&] {
    for (int i = 0; i < kTokens; ++i) stream.Put({TokenEvent{.token = i}});
    stream.Put({FinishedEvent{}});
  });
  int next = 0;
  bool finished = false;
  while (!finished) {
    while (wakes.load() == 0) std::this_thread::yield();
    --wakes;
    for (const StreamEvent& event : stream.Take()) {
      if (const auto* token = std::get_if<TokenEvent>(&event)) {
        ASSERT_EQ(token->token, next++);
      } else {
        finished = true;
      }
    }
  }
  writer.join();
  EXPECT_EQ(next, kTokens);
}

}  // namespace
}  // namespace sluice::scheduler
