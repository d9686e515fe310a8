#include "random_clients.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

namespace sluice::scheduler {
namespace {

constexpr absl::Duration kAgeing = absl::Milliseconds(300);
constexpr absl::Duration kStepTime = absl::Milliseconds(10);
constexpr int kMaxPrompt = 64;
constexpr int kMaxAnswer = 30;

// A choice's whole answer, worked out without an engine.
std::vector<TokenId> FullAnswer(const Request& request, int choice) {
  std::vector<TokenId> context = request.prompt;
  std::vector<TokenId> answer;
  const auto& stop = request.stop_token_ids;
  const auto is_stop = [&](TokenId token) {
    return std::find(stop.begin(), stop.end(), token) != stop.end();
  };
  while (answer.size() < static_cast<size_t>(request.max_tokens)) {
    TokenId token = testing::FakeNextToken(context);
    if (request.sampling.temperature > 0) {
      token = testing::FakeRandomToken(token, ChoiceSeed(request.sampling.seed, choice),
                                       static_cast<int64_t>(context.size()));
    }
    while (answer.size() < static_cast<size_t>(request.min_tokens) && is_stop(token)) {
      token = (token + 1) % 1000;
    }
    answer.push_back(token);
    context.push_back(token);
    if (is_stop(token)) break;
  }
  return answer;
}

}  // namespace

bool RandomClients::Client::ended() const {
  return failed || std::all_of(choices.begin(), choices.end(),
                               [](const Choice& choice) { return choice.ended; });
}

RandomClients::RandomClients(const Setup& setup, std::function<int(int)> below)
    : setup_(setup),
      below_(std::move(below)),
      engine_({.limits = {.max_waiting_requests = setup.max_waiting_requests,
                          .max_waiting_tokens = setup.max_waiting_tokens,
                          .max_running_requests = setup.max_running_requests,
                          .max_step_tokens = setup.max_step_tokens,
                          .max_step_slowdown = setup.max_step_slowdown,
                          .max_context = 96,
                          .priority_ageing = kAgeing},
               .runner = {.num_kv_blocks = setup.num_kv_blocks,
                          .next_token = testing::FakeNextToken,
                          .on_run = [this](auto batch) { CheckBatch(batch); }},
               .step_time = kStepTime,
               .metrics = setup.metrics}) {
  for (int i = 0; i < 3; ++i) {
    std::vector<TokenId>& beginning = beginnings_.emplace_back(kMaxPrompt);
    for (int j = 0; j < kMaxPrompt; ++j) beginning[j] = 100 * i + j;
  }
}

void RandomClients::Operate() {
  const int dice = Below(100);
  if (dice < 25) {
    Submit();
  } else if (dice < 31) {
    Cancel();
  } else if (dice < 34) {
    CancelChoice();
  } else if (dice < 38) {
    engine_.clock.Advance(absl::Milliseconds(Below(50)));
  } else {
    Step();
  }
  CheckLoad();
}

void RandomClients::Finish() {
  // CheckProgress sees to it that this ends.
  while (!live_.empty() && !::testing::Test::HasFailure()) {
    Step();
    CheckLoad();
  }
  engine_.ExpectIdle();
}

Request RandomClients::MakeUpRequest() {
  // Ids are few, so that they are used again and clash. Choices are made one by one: compilers
  // differ in which of a call's arguments they compute first.
  const std::string id = absl::StrCat("id", Below(60));
  const int num_prompt_tokens = 1 + Below(kMaxPrompt);
  const int max_tokens = 1 + Below(kMaxAnswer);
  Request request = MakeRequest(id, num_prompt_tokens, max_tokens);
  const std::vector<TokenId>& beginning = beginnings_[Below(3)];
  const size_t num_shared = std::min<size_t>(Below(kMaxPrompt + 1), request.prompt.size());
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    request.prompt[i] = i < num_shared ? beginning[i] : Below(250);
  }
  if (Below(3) == 0) {
    for (int i = 0; i < 30; ++i) request.stop_token_ids.push_back(Below(250) * 4);
    request.min_tokens = Below(std::min(request.max_tokens, 5) + 1);
  }
  if (Below(3) == 0) request.sampling.temperature = 1;
  request.sampling.seed = static_cast<uint64_t>(Below(4));
  if (Below(4) == 0) request.num_choices = 1 + Below(std::min(4, setup_.max_running_requests));
  if (Below(8) == 0) request.prompt_logprobs = Below(2);
  if (Below(6) == 0) request.bypass_prefix_cache = true;
  if (Below(5) == 0) request.cache_salt = "salt";
  if (Below(3) == 0) request.priority = Below(5) - 2;
  if (Below(6) == 0) {
    request.deadline = engine_.clock.Now() + absl::Milliseconds(10 * Below(60));
  }
  return request;
}

void RandomClients::Submit() {
  Request request = MakeUpRequest();
  auto client = std::make_unique<Client>();
  client->number = next_number_;
  client->id = request.id;
  client->prompt = request.prompt;
  client->max_tokens = request.max_tokens;
  client->wants_prompt_logprobs = request.prompt_logprobs.has_value();
  client->deadline = request.deadline;
  client->rank = Rank::Of(engine_.clock.Now(), next_number_, request.priority, kAgeing);
  client->choices.resize(request.num_choices);
  for (int i = 0; i < request.num_choices; ++i) client->choices[i].answer = FullAnswer(request, i);
  client->stream = std::make_shared<TokenStream>([this, c = client.get()] { Read(*c); });

  const bool clashes = std::any_of(live_.begin(), live_.end(),
                                   [&](const auto& l) { return l.second->id == client->id; });
  const EngineLoad load = engine_.core.Load();
  const int64_t num_prompt = static_cast<int64_t>(request.prompt.size());
  const bool is_full = load.waiting_requests >= setup_.max_waiting_requests ||
                       (load.waiting_requests > 0 &&
                        load.waiting_prompt_tokens + num_prompt > setup_.max_waiting_tokens);
  const bool may_be_late = request.deadline != absl::InfiniteFuture();
  const absl::Status status = engine_.core.Submit(std::move(request), client->stream);
  if (may_be_late && !clashes && absl::IsResourceExhausted(status)) return;
  ASSERT_EQ(status.code(), clashes   ? absl::StatusCode::kAlreadyExists
                           : is_full ? absl::StatusCode::kResourceExhausted
                                     : absl::StatusCode::kOk);
  if (!status.ok()) {
    ++num_refused_;
    return;
  }
  client->max_steps = StepsAlone(*client);
  for (const auto& [number, other] : live_) {
    if (other->rank < client->rank || other->started) client->max_steps += StepsAlone(*other);
    if (client->rank < other->rank) other->max_steps += StepsAlone(*client);
  }
  live_.emplace(next_number_++, std::move(client));
}

RandomClients::Client* RandomClients::PickClient() {
  if (live_.empty()) return nullptr;
  return std::next(live_.begin(), Below(static_cast<int>(std::min<size_t>(live_.size(), 256))))
      ->second.get();
}

void RandomClients::Cancel() {
  Client* client = PickClient();
  if (client == nullptr || Below(10) == 0) {
    EXPECT_EQ(engine_.core.Cancel("nobody").code(), absl::StatusCode::kNotFound);
    return;
  }
  EXPECT_TRUE(engine_.core.Cancel(client->id).ok());
  client->cancelling = true;
}

void RandomClients::CancelChoice() {
  Client* client = PickClient();
  if (client == nullptr) return;
  const int choice = Below(static_cast<int>(client->choices.size()));
  EXPECT_TRUE(engine_.core.Cancel(client->id, client->stream.get(), choice).ok());
  if (!client->cancelling) client->choices[choice].cancelling = true;
}

void RandomClients::Step() {
  std::map<uint64_t, std::vector<size_t>> tokens_before;
  for (const auto& [number, client] : live_) {
    ++client->steps_lived;
    for (Choice& choice : client->choices) {
      choice.ended = choice.ended || choice.cancelling;
      tokens_before[number].push_back(choice.num_tokens);
    }
  }
  const absl::Time start = engine_.clock.Now();
  const int64_t preemptions_before = engine_.core.Load().preemptions;
  engine_.core.Step();
  CheckPace(tokens_before, engine_.core.Load().preemptions - preemptions_before);
  CheckProgress();
  CheckEnds(start);
  DropEnded();
}

// Who was cancelled, or past his deadline, when the step began has ended.
void RandomClients::CheckEnds(absl::Time step_start) {
  for (const auto& [number, client] : live_) {
    ASSERT_TRUE(client->ended() || (!client->cancelling && step_start < client->deadline))
        << client->id << " goes on";
  }
}

// A stream has one token in each step unless it is preempted; who is preempted ranks behind all
// that run.
void RandomClients::CheckPace(const std::map<uint64_t, std::vector<size_t>>& tokens_before,
                              int64_t num_preempted) {
  const Client* last_served = nullptr;
  const Client* first_stalled = nullptr;
  int num_stalled = 0;
  for (const auto& [number, client] : live_) {
    for (size_t c = 0; c < client->choices.size(); ++c) {
      Choice& choice = client->choices[c];
      const size_t before = tokens_before.at(number)[c];
      ASSERT_LE(choice.num_tokens, before + 1);
      if (choice.num_tokens > before) {
        choice.stalled = false;
        if (last_served == nullptr || last_served->rank < client->rank) last_served = client.get();
      } else if (before > 0 && !choice.ended && !client->failed && !choice.stalled) {
        choice.stalled = true;
        ++num_stalled;
        if (first_stalled == nullptr || client->rank < first_stalled->rank) {
          first_stalled = client.get();
        }
      }
    }
  }
  ASSERT_LE(num_stalled, num_preempted) << "a stream lost its pace";
  if (first_stalled != nullptr && last_served != nullptr) {
    ASSERT_FALSE(first_stalled->rank < last_served->rank)
        << first_stalled->id << " was preempted for " << last_served->id;
  }
}

// Fair share: the steps that the sequences before a request take one after the other, with one
// token a step. Those before it are the choices of the requests that rank before it or had begun
// when it came.
//
// Beyond it, N steps for each of these and of the request's own, where N is the longest that any
// request may take alone. Why: the first in rank of the sequences that run has a token in every
// step and is never preempted, so it ends within N, unless one that ranks before it is admitted and
// becomes the first. That happens once for each such sequence: when it is preempted, only those
// before it run, and nobody behind it is admitted before it is again. So there are at most as many
// times in vain, of at most N steps each, as there are sequences.
void RandomClients::CheckProgress() {
  for (const auto& [number, client] : live_) {
    ASSERT_LE(client->steps_lived, client->max_steps) << client->id << " starves";
  }
}

// Where prompts are held to a budget, one step in five at most leaves them aside, so all of it may
// take a quarter more.
int64_t RandomClients::StepsAlone(const Client& client) const {
  const auto steps_for = [&](int64_t num_tokens) {
    return setup_.max_step_slowdown.has_value() ? num_tokens + num_tokens / 4 + 1 : num_tokens;
  };
  const int64_t length = static_cast<int64_t>(client.prompt.size()) + client.max_tokens;
  return static_cast<int64_t>(client.choices.size()) *
         (steps_for(length) + steps_for(kMaxPrompt + kMaxAnswer));
}

void RandomClients::Read(Client& client) {
  for (const StreamEvent& event : client.stream->Take()) {
    ASSERT_FALSE(client.ended()) << client.id << " goes on after its end";
    std::visit([&](const auto& e) { On(client, e); }, event);
  }
}

void RandomClients::On(Client& client, const StartedEvent& event) {
  ASSERT_FALSE(client.started);
  client.started = true;
  ASSERT_LT(event.cached_prompt_tokens, static_cast<int>(client.prompt.size()));
  ASSERT_TRUE(event.cached_prompt_tokens == 0 || !client.wants_prompt_logprobs);
  for (const auto& [number, other] : live_) {
    ASSERT_TRUE(other->started || other->ended() || client.rank < other->rank)
        << client.id << " was admitted before " << other->id;
  }
}

void RandomClients::On(Client& client, const PromptLogprobsEvent& event) {
  ASSERT_TRUE(client.started && client.wants_prompt_logprobs && !client.has_prompt_logprobs);
  client.has_prompt_logprobs = true;
  ASSERT_EQ(event.logprobs.size() + 1, client.prompt.size());
  for (size_t i = 0; i < event.logprobs.size(); ++i) {
    const model::TokenLogprob want =
        testing::FakeLogprob(client.prompt[i], client.prompt[i + 1], 0);
    ASSERT_EQ(event.logprobs[i].token, want.token);
    ASSERT_EQ(event.logprobs[i].logprob, want.logprob);
  }
}

void RandomClients::On(Client& client, const TokenEvent& event) {
  ASSERT_TRUE(client.started);
  ASSERT_EQ(client.wants_prompt_logprobs, client.has_prompt_logprobs);
  Choice& choice = client.choices.at(event.choice);
  ASSERT_FALSE(choice.ended);
  ASSERT_LT(choice.num_tokens, choice.answer.size());
  ASSERT_EQ(event.token, choice.answer[choice.num_tokens]) << client.id;
  ++choice.num_tokens;
}

void RandomClients::On(Client& client, const FinishedEvent& event) {
  Choice& choice = client.choices.at(event.choice);
  ASSERT_FALSE(choice.ended);
  ASSERT_EQ(choice.num_tokens, choice.answer.size());
  choice.ended = true;
  ++num_finished_;
}

void RandomClients::On(Client& client, const FailedEvent& event) {
  if (absl::IsCancelled(event.status)) {
    ASSERT_TRUE(client.cancelling) << client.id << " was cancelled by nobody";
  } else {
    ASSERT_TRUE(absl::IsDeadlineExceeded(event.status)) << event.status;
    ASSERT_GE(engine_.clock.Now(), client.deadline) << client.id << " had time left";
  }
  client.failed = true;
  ++num_failed_;
}

// FakeModelRunner checks that no block is written that is in two tables, and by each answer that no
// table leads to blocks with other contents.
void RandomClients::CheckBatch(absl::Span<const model::SequenceStep> batch) {
  int64_t num_tokens = 0;
  int64_t num_streams = 0;
  std::set<model::BlockId> blocks;
  for (const model::SequenceStep& step : batch) {
    num_tokens += static_cast<int64_t>(step.tokens.size());
    if (step.tokens.size() == 1 && step.sampling != nullptr) ++num_streams;
    blocks.insert(step.block_table.begin(), step.block_table.end());
  }
  EXPECT_LE(num_tokens, setup_.max_step_tokens);
  if (num_streams > 0) {
    EXPECT_LE(static_cast<double>(num_tokens - num_streams),
              engine_.metrics.engine().step_prompt_budget_tokens.Value());
  }
  if (setup_.max_step_slowdown.has_value()) {
    engine_.clock.Advance(absl::Milliseconds(Below(3) * (num_tokens - num_streams)));
  }
  EXPECT_LE(batch.size(), static_cast<size_t>(setup_.max_running_requests));
  EXPECT_LE(blocks.size(), static_cast<size_t>(engine_.core.Load().used_kv_blocks()));
}

void RandomClients::CheckLoad() {
  const EngineLoad load = engine_.core.Load();
  int64_t tokens_unstarted = 0;
  int num_unstarted = 0;
  // A choice that has just forked off a prompt without a full block to share: there may have been
  // no block to copy the rest to, which it then computes itself.
  bool may_hold_nothing = false;
  for (const auto& [number, client] : live_) {
    if (client->choices.size() > 1 && client->prompt.size() <= model::kKvBlockTokens) {
      may_hold_nothing = true;
    }
    if (client->started) continue;
    ++num_unstarted;
    tokens_unstarted += static_cast<int64_t>(client->prompt.size());
  }
  ASSERT_EQ(load.running_requests + load.waiting_requests, static_cast<int>(live_.size()));
  // Those that were preempted wait too.
  ASSERT_GE(load.waiting_requests, num_unstarted);
  ASSERT_GE(load.waiting_prompt_tokens, tokens_unstarted);
  ASSERT_EQ(load.waiting_requests == 0, load.waiting_prompt_tokens == 0);
  ASSERT_LE(load.running_requests, setup_.max_running_requests);
  ASSERT_LE(num_unstarted, setup_.max_waiting_requests);
  ASSERT_GE(load.free_kv_blocks, 0);
  ASSERT_GE(load.cached_kv_blocks, 0);
  ASSERT_GE(load.used_kv_blocks(), 0);
  if (load.running_requests == 0) {
    ASSERT_EQ(load.used_kv_blocks(), 0);
  } else if (!may_hold_nothing) {
    ASSERT_GT(load.used_kv_blocks(), 0);
  }
}

void RandomClients::DropEnded() {
  for (auto client = live_.begin(); client != live_.end();) {
    client = client->second->ended() ? live_.erase(client) : std::next(client);
  }
}

}  // namespace sluice::scheduler
