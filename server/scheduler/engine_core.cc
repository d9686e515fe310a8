#include "scheduler/engine_core.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sluice::scheduler {
namespace {

// The engine's limits, within what the runner can take. Every running sequence has a place and a
// token in every step, so none is left behind.
PlanLimits FitToRunner(const EngineLimits& limits, const model::ModelRunner& runner) {
  PlanLimits fit;
  fit.max_step_tokens = std::min(limits.max_step_tokens, runner.max_step_tokens());
  fit.max_step_sequences = std::min(runner.max_step_sequences(), fit.max_step_tokens);
  fit.max_running_sequences = std::min(limits.max_running_requests, fit.max_step_sequences);
  CHECK(fit.max_running_sequences >= 1);
  return fit;
}

// The system's clock may be set back.
double SecondsBetween(absl::Time from, absl::Time to) {
  return std::max(absl::ToDoubleSeconds(to - from), 0.0);
}

// Moves the sequences that ended to the back of `ended`; the others keep their order.
template <typename Container>
void TakeEnded(Container& sequences, std::vector<std::unique_ptr<Sequence>>& ended) {
  const auto first_ended =
      std::stable_partition(sequences.begin(), sequences.end(),
                            [](const std::unique_ptr<Sequence>& s) { return !s->ended(); });
  std::move(first_ended, sequences.end(), std::back_inserter(ended));
  sequences.erase(first_ended, sequences.end());
}

}  // namespace

EngineCore::EngineCore(const EngineOptions& options)
    : limits_(options.limits),
      plan_limits_(FitToRunner(options.limits, *options.runner)),
      clock_(*options.clock),
      runner_(*options.runner),
      metrics_(*options.metrics),
      queue_(options.limits.max_waiting_requests, clock_),
      blocks_(runner_.num_kv_blocks()) {
  CHECK(limits_.max_waiting_requests >= 1 && limits_.max_context >= 1);
  CHECK(blocks_.num_blocks() >= 1);
  PublishLoad();
}

absl::Status EngineCore::Submit(Request request, std::shared_ptr<TokenStream> stream) {
  CHECK(stream != nullptr);
  if (request.prompt.empty()) return absl::InvalidArgumentError("prompt: it has no tokens");
  if (request.max_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens: ", request.max_tokens, " is less than 1"));
  }
  const int64_t num_prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t num_tokens = num_prompt + request.max_tokens;
  const int64_t cache_tokens = int64_t{blocks_.num_blocks()} * model::kKvBlockTokens;
  const int64_t max_tokens = std::min(limits_.max_context, cache_tokens);
  if (num_tokens > max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        num_prompt >= max_tokens ? "prompt: " : "max_tokens: ", num_prompt, " prompt tokens and ",
        request.max_tokens, " tokens of answer are more than the ",
        cache_tokens < limits_.max_context ? "KV cache holds (" : "context holds (", max_tokens,
        ")"));
  }
  return queue_.Submit(std::move(request), std::move(stream));
}

bool EngineCore::AwaitWork() { return queue_.AwaitWork(HasSequences()); }

void EngineCore::Step() {
  now_ = clock_.Now();
  DrainInbox();
  MakePlan();
  if (plan_.sequences.empty()) return;
  Apply();
  Run();
  Publish();
  Retire();
}

void EngineCore::DrainInbox() {
  TakeIn(queue_.Drain());
  CheckDeadlines();
  Retire();
}

void EngineCore::TakeIn(Inbox inbox) {
  for (Arrival& arrival : inbox.arrivals) {
    waiting_.push_back(std::make_unique<Sequence>(std::move(arrival)));
  }
  for (const uint64_t number : inbox.cancelled) {
    // It may have ended since.
    Sequence* sequence = Find(number);
    if (sequence != nullptr) sequence->Fail(absl::CancelledError("the request was cancelled"));
  }
}

void EngineCore::CheckDeadlines() {
  const auto check = [this](Sequence& sequence, absl::string_view state) {
    if (sequence.ended() || now_ < sequence.deadline()) return;
    sequence.Fail(absl::DeadlineExceededError(
        absl::StrCat("the deadline passed while the request was ", state, ", after ",
                     sequence.num_generated(), " generated tokens")));
  };
  for (const auto& sequence : waiting_) check(*sequence, "waiting");
  for (const auto& sequence : running_) check(*sequence, "running");
}

void EngineCore::MakePlan() {
  running_pending_.clear();
  for (const auto& sequence : running_) running_pending_.push_back(sequence->tokens_pending());
  waiting_wanted_.clear();
  for (const auto& sequence : waiting_) {
    waiting_wanted_.push_back(
        {.tokens_pending = sequence->tokens_pending(), .blocks_wanted = sequence->blocks_wanted()});
  }
  const SchedulerState state{.running_pending = running_pending_,
                             .waiting = waiting_wanted_,
                             .free_blocks = blocks_.num_free()};
  plan_ = Plan(state, plan_limits_, std::move(plan_));
  // While something runs, it is planned. When nothing does, all blocks are free, and Submit took
  // only what fits into them. So the engine may sleep exactly when it has no sequences, and needs
  // no alarm for the deadlines of those that wait.
  CHECK(!plan_.sequences.empty() || !HasSequences());
}

void EngineCore::Apply() {
  const size_t num_running = running_.size();
  for (int i = 0; i < plan_.num_admitted; ++i) {
    Sequence& sequence = *waiting_.front();
    sequence.Start(blocks_.Allocate(sequence.blocks_wanted()), now_);
    metrics_.queue_time_seconds.Observe(SecondsBetween(sequence.times().submitted, now_));
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  PublishLoad();
  for (size_t i = num_running; i < running_.size(); ++i) running_[i]->DeliverEvents();
}

void EngineCore::Run() {
  batch_.clear();
  for (const auto& [index, num_tokens] : plan_.sequences) {
    batch_.push_back(running_[index]->NextStep(num_tokens));
  }
  const absl::Span<const model::SequenceResult> results = runner_.Run(batch_);
  CHECK(results.size() == batch_.size());
  const absl::Time started_at = std::exchange(now_, clock_.Now());
  metrics_.step_seconds.Observe(SecondsBetween(started_at, now_));

  int num_step_tokens = 0;
  int num_prompt_tokens = 0;
  int num_generated = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    const auto [index, num_tokens] = plan_.sequences[i];
    Sequence& sequence = *running_[index];
    const Sequence::Times before = sequence.times();
    num_step_tokens += num_tokens;
    num_prompt_tokens += sequence.Accept(num_tokens, results[i], now_);
    if (results[i].token.has_value()) {
      ++num_generated;
      ObserveToken(before, sequence);
    }
  }
  metrics_.step_tokens.Observe(num_step_tokens);
  metrics_.step_sequences.Observe(static_cast<double>(results.size()));
  metrics_.prompt_tokens_total.Increment(num_prompt_tokens);
  metrics_.generation_tokens_total.Increment(num_generated);
  ++load_.steps;
  load_.prompt_tokens += num_prompt_tokens;
  load_.generated_tokens += num_generated;
}

void EngineCore::ObserveToken(const Sequence::Times& before, const Sequence& sequence) {
  const Sequence::Times& times = sequence.times();
  if (sequence.num_generated() == 1) {
    metrics_.prefill_time_seconds.Observe(SecondsBetween(times.started, now_));
    metrics_.time_to_first_token_seconds.Observe(SecondsBetween(times.submitted, now_));
  } else {
    metrics_.inter_token_latency_seconds.Observe(SecondsBetween(before.last_token, now_));
  }
}

// A reader who hears of a token finds it counted everywhere; one who hears of an end is served by
// Retire, which frees what the sequence held first.
void EngineCore::Publish() {
  const model::ExpertStepLoad experts = runner_.expert_load();
  metrics_.expert_load.Publish({.num_tokens = experts.num_tokens,
                                .tokens = experts.tokens,
                                .weights = experts.weights,
                                .probabilities = experts.probabilities,
                                .seconds = experts.seconds});
  PublishLoad();
  for (const auto& sequence : running_) {
    if (!sequence->ended()) sequence->DeliverEvents();
  }
}

void EngineCore::Retire() {
  TakeEnded(running_, ended_);
  TakeEnded(waiting_, ended_);
  if (ended_.empty()) return;
  std::vector<absl::string_view> ids;
  for (const auto& sequence : ended_) {
    blocks_.Free(sequence->ReleaseBlocks());
    ids.push_back(sequence->id());
    // Whatever ended it: what ends at a stop string is cancelled.
    const Sequence::Times& times = sequence->times();
    if (sequence->num_generated() > 1) {
      metrics_.decode_time_seconds.Observe(SecondsBetween(times.first_token, times.last_token));
    }
  }
  PublishLoad(ids);
  for (const auto& sequence : ended_) sequence->DeliverEvents();
  ended_.clear();
}

void EngineCore::EndAll(absl::string_view message) {
  TakeIn(queue_.Drain());
  const auto end = [message](Sequence& sequence) {
    if (!sequence.ended()) sequence.Fail(absl::UnavailableError(message));
  };
  for (const auto& sequence : waiting_) end(*sequence);
  for (const auto& sequence : running_) end(*sequence);
  Retire();
}

Sequence* EngineCore::Find(uint64_t number) {
  const auto has_number = [number](const auto& sequence) { return sequence->number() == number; };
  const auto waiting = std::find_if(waiting_.begin(), waiting_.end(), has_number);
  if (waiting != waiting_.end()) return waiting->get();
  const auto running = std::find_if(running_.begin(), running_.end(), has_number);
  return running != running_.end() ? running->get() : nullptr;
}

void EngineCore::PublishLoad(absl::Span<const absl::string_view> ended_ids) {
  load_.waiting_requests = static_cast<int>(waiting_.size());
  load_.running_requests = static_cast<int>(running_.size());
  load_.total_kv_blocks = blocks_.num_blocks();
  load_.free_kv_blocks = blocks_.num_free();
  const EngineLoad load = queue_.Update(load_, ended_ids);

  const int used_blocks = load.total_kv_blocks - load.free_kv_blocks;
  metrics_.requests_waiting.Set(load.waiting_requests);
  metrics_.requests_running.Set(load.running_requests);
  metrics_.kv_blocks_used.Set(used_blocks);
  metrics_.kv_blocks_free.Set(load.free_kv_blocks);
  metrics_.kv_cache_usage_ratio.Set(static_cast<double>(used_blocks) / load.total_kv_blocks);
}

}  // namespace sluice::scheduler
