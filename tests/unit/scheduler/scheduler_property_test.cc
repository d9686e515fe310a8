// What must hold whatever clients do, checked after each of many random operations.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "random_clients.h"

namespace sluice::scheduler {
namespace {

constexpr int kOperations = 100'000;

TEST(SchedulerPropertyTest, HoldsForRandomClients) {
  struct Row {
    std::string claim;
    uint32_t seed;
    RandomClients::Setup setup;
    bool preempts = true;
  };
  const Row table[] = {
      {"blocks are short", 1, {.num_kv_blocks = 10}},
      {"blocks are shorter than one request of two choices", 2, {.num_kv_blocks = 6}},
      {"places are short", 3, {.max_running_requests = 3}, false},
      {"the budget is short",
       4,
       {.max_waiting_requests = 40, .max_step_tokens = 16, .num_kv_blocks = 10}},
      {"one request at a time",
       5,
       {.max_waiting_requests = 4, .max_running_requests = 1, .max_step_tokens = 7},
       false},
      {"prompts are held to a budget",
       6,
       {.max_running_requests = 8, .num_kv_blocks = 30, .max_step_slowdown = 1.5},
       false},
      {"prompts are held to a budget, and blocks are short",
       7,
       {.num_kv_blocks = 8, .max_step_slowdown = 3}},
      {"prompts are held to a budget that is short itself",
       8,
       {.max_step_tokens = 17, .num_kv_blocks = 12, .max_step_slowdown = 1.2}},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(absl::StrCat(row.claim, ", seed ", row.seed));
    std::mt19937 random(row.seed);
    RandomClients clients(row.setup, [&](int n) { return static_cast<int>(random() % n); });
    for (int i = 0; i < kOperations; ++i) {
      clients.Operate();
      if (::testing::Test::HasFailure()) FAIL() << "at operation " << i;
    }
    clients.Finish();
    // It was no idle run.
    EXPECT_GT(clients.num_finished(), 1000);
    EXPECT_GT(clients.num_failed(), 500);
    EXPECT_GT(clients.num_refused(), 10);
    EXPECT_GT(clients.load().cached_prompt_tokens, 1000);
    if (row.preempts) {
      EXPECT_GT(clients.load().preemptions, 500);
    }
  }
}

}  // namespace
}  // namespace sluice::scheduler
