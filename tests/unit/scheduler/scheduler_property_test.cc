// What must hold whatever clients do, checked after each of many random operations.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/engine_core.h"
#include "test_engine.h"

namespace sluice::scheduler {
namespace {

constexpr int kOperations = 40'000;

// A request that was accepted, and what its reader has heard.
struct Client {
  int number = 0;
  std::string id;
  int blocks = 0;
  std::vector<TokenId> answer;  // in full, if nothing ends it early
  std::shared_ptr<TokenStream> stream;
  bool started = false;
  size_t num_tokens = 0;
  int num_ends = 0;
};

// The whole answer, worked out without an engine.
std::vector<TokenId> FullAnswer(const Request& request) {
  std::vector<TokenId> context = request.prompt;
  std::vector<TokenId> answer;
  const auto& stop = request.stop_token_ids;
  while (answer.size() < static_cast<size_t>(request.max_tokens)) {
    answer.push_back(testing::FakeNextToken(context));
    context.push_back(answer.back());
    if (std::find(stop.begin(), stop.end(), answer.back()) != stop.end()) break;
  }
  return answer;
}

class RandomClients {
 public:
  RandomClients(uint32_t seed, const EngineLimits& limits, int num_kv_blocks)
      : random_(seed),
        limits_(limits),
        engine_({.limits = limits,
                 .runner = {.num_kv_blocks = num_kv_blocks,
                            .on_run = [this](auto batch) { CheckBatch(batch); }},
                 .step_time = absl::Milliseconds(10)}) {}

  void Operate() {
    const int dice = Below(100);
    if (dice < 30) {
      Submit();
    } else if (dice < 38) {
      Cancel();
    } else if (dice < 42) {
      engine_.clock.Advance(absl::Milliseconds(Below(50)));
    } else {
      Step();
    }
    CheckLoad();
  }

  // Nobody starves: all that is left ends within the steps that its tokens take.
  void Finish() {
    int steps_left = 200 * static_cast<int>(live_.size());
    while (!live_.empty() && steps_left-- > 0) {
      Step();
      CheckLoad();
    }
    EXPECT_TRUE(live_.empty()) << live_.size() << " requests never end";
    engine_.ExpectIdle();
    EXPECT_GT(num_finished_, 100);
    EXPECT_GT(num_failed_, 100);
    EXPECT_GT(num_refused_, 0);
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  void Submit() {
    // Ids are few, so that they are used again and clash.
    Request request = MakeRequest(absl::StrCat("id", Below(60)), 1 + Below(60), 1 + Below(30));
    for (TokenId& token : request.prompt) token = Below(1000);
    if (Below(3) == 0) {
      for (int i = 0; i < 50; ++i) request.stop_token_ids.push_back(Below(1000));
    }
    if (Below(5) == 0) {
      request.deadline = engine_.clock.Now() + absl::Milliseconds(Below(300));
    }
    auto client = std::make_shared<Client>();
    client->number = next_number_;
    client->id = request.id;
    client->blocks = (static_cast<int>(request.prompt.size()) + request.max_tokens + 15) / 16;
    client->answer = FullAnswer(request);
    client->stream =
        std::make_shared<TokenStream>([this, client = client.get()] { Read(*client); });
    const bool clashes = std::any_of(live_.begin(), live_.end(),
                                     [&](const auto& l) { return l.second->id == client->id; });
    const bool is_full = engine_.core.Load().waiting_requests >= limits_.max_waiting_requests;
    const absl::Status status = engine_.core.Submit(std::move(request), client->stream);
    ASSERT_EQ(status.code(), clashes   ? absl::StatusCode::kAlreadyExists
                             : is_full ? absl::StatusCode::kResourceExhausted
                                       : absl::StatusCode::kOk);
    if (status.ok()) {
      live_.emplace(next_number_++, client);
    } else {
      ++num_refused_;
    }
  }

  void Cancel() {
    if (live_.empty() || Below(10) == 0) {
      EXPECT_EQ(engine_.core.Cancel("nobody").code(), absl::StatusCode::kNotFound);
      return;
    }
    const auto client = std::next(live_.begin(), Below(static_cast<int>(live_.size())));
    EXPECT_TRUE(engine_.core.Cancel(client->second->id).ok());
  }

  void Step() {
    std::vector<std::pair<std::shared_ptr<Client>, size_t>> streaming;
    for (const auto& [number, client] : live_) {
      if (client->num_tokens > 0) streaming.emplace_back(client, client->num_tokens);
    }
    engine_.core.Step();
    for (const auto& [client, num_tokens] : streaming) {
      if (live_.count(client->number) == 0) continue;
      ASSERT_EQ(client->num_tokens, num_tokens + 1) << client->id << " lost its pace";
    }
  }

  void Read(Client& client) {
    for (const StreamEvent& event : client.stream->Take()) {
      ASSERT_EQ(client.num_ends, 0) << client.id << " goes on after its end";
      if (std::holds_alternative<StartedEvent>(event)) {
        ASSERT_FALSE(client.started);
        ASSERT_GT(client.number, last_started_) << "admission out of order";
        last_started_ = client.number;
        client.started = true;
        used_blocks_ += client.blocks;
      } else if (const auto* token = std::get_if<TokenEvent>(&event)) {
        ASSERT_TRUE(client.started);
        ASSERT_LT(client.num_tokens, client.answer.size());
        ASSERT_EQ(token->token, client.answer[client.num_tokens]) << client.id;
        ++client.num_tokens;
      } else {
        ++client.num_ends;
        if (client.started) used_blocks_ -= client.blocks;
        if (std::holds_alternative<FinishedEvent>(event)) {
          ASSERT_EQ(client.num_tokens, client.answer.size());
          ++num_finished_;
        } else {
          ++num_failed_;
        }
      }
    }
    if (client.num_ends > 0) {
      ended_.push_back(live_.at(client.number));  // its stream is calling
      live_.erase(client.number);
    }
  }

  // FakeModelRunner checks that no block is in two tables, and its answers that none was written by
  // another sequence.
  void CheckBatch(absl::Span<const model::SequenceStep> batch) {
    int64_t num_tokens = 0;
    for (const model::SequenceStep& step : batch) {
      num_tokens += static_cast<int64_t>(step.tokens.size());
    }
    EXPECT_LE(num_tokens, limits_.max_step_tokens);
    EXPECT_LE(batch.size(), static_cast<size_t>(limits_.max_running_requests));
  }

  void CheckLoad() {
    ended_.clear();
    const EngineLoad load = engine_.core.Load();
    const int num_started = static_cast<int>(
        std::count_if(live_.begin(), live_.end(), [](const auto& l) { return l.second->started; }));
    ASSERT_EQ(load.running_requests, num_started);
    ASSERT_EQ(load.waiting_requests, static_cast<int>(live_.size()) - num_started);
    ASSERT_LE(load.running_requests, limits_.max_running_requests);
    ASSERT_LE(load.waiting_requests, limits_.max_waiting_requests);
    ASSERT_EQ(load.free_kv_blocks + used_blocks_, load.total_kv_blocks);
  }

  std::mt19937 random_;
  const EngineLimits limits_;
  TestEngine engine_;
  int next_number_ = 0;
  int last_started_ = -1;
  std::map<int, std::shared_ptr<Client>> live_;  // by number
  std::vector<std::shared_ptr<Client>> ended_;
  int used_blocks_ = 0;
  int num_finished_ = 0;
  int num_failed_ = 0;
  int num_refused_ = 0;
};

TEST(SchedulerPropertyTest, HoldsForRandomClients) {
  struct Row {
    std::string claim;
    uint32_t seed;
    EngineLimits limits;
    int num_kv_blocks;
  };
  const Row table[] = {
      {"blocks are short", 1, {16, 16, 64, 96}, 12},
      {"places are short", 2, {16, 3, 64, 96}, 100},
      {"the budget is short", 3, {40, 16, 16, 96}, 100},
      {"one request at a time", 4, {4, 1, 7, 96}, 6},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(absl::StrCat(row.claim, ", seed ", row.seed));
    RandomClients clients(row.seed, row.limits, row.num_kv_blocks);
    for (int i = 0; i < kOperations; ++i) {
      clients.Operate();
      if (::testing::Test::HasFailure()) FAIL() << "at operation " << i;
    }
    clients.Finish();
  }
}

}  // namespace
}  // namespace sluice::scheduler
