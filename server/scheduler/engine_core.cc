#include "scheduler/engine_core.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "scheduler/block_table.h"

namespace sluice::scheduler {
namespace {

// The engine's limits, within what the runner can take. Every running sequence has a place and a
// token in every step, so none is left behind.
PlanLimits FitToRunner(const EngineLimits& limits, const model::ModelRunner& runner) {
  PlanLimits fit;
  fit.max_step_tokens = std::min(limits.max_step_tokens, runner.max_step_tokens());
  fit.max_running_sequences =
      std::min({limits.max_running_requests, runner.max_step_sequences(), fit.max_step_tokens});
  CHECK(fit.max_running_sequences >= 1);
  return fit;
}

bool RanksBefore(const Sequence* a, const Sequence* b) { return a->RanksBefore(*b); }

absl::Status OutOfRange(absl::string_view field, int64_t value, absl::string_view bound) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", value, " is ", bound));
}

}  // namespace

EngineCore::EngineCore(const EngineOptions& options)
    : limits_(options.limits),
      plan_limits_(FitToRunner(options.limits, *options.runner)),
      clock_(*options.clock),
      runner_(*options.runner),
      queue_(options.limits, clock_, *options.metrics),
      report_(*options.metrics),
      blocks_(runner_.num_kv_blocks()),
      pacer_(limits_.max_step_slowdown, plan_limits_.max_step_tokens) {
  CHECK(limits_.max_waiting_requests >= 1 && limits_.max_context >= 1);
  CHECK(limits_.priority_ageing >= absl::ZeroDuration() &&
        limits_.priority_ageing < absl::InfiniteDuration());
  CHECK(blocks_.num_blocks() >= 1);
  PublishLoad();
}

absl::Status EngineCore::Submit(Request request, std::shared_ptr<TokenStream> stream) {
  CHECK(stream != nullptr);
  if (request.prompt.empty()) return absl::InvalidArgumentError("prompt: it has no tokens");
  if (request.max_tokens < 1) return OutOfRange("max_tokens", request.max_tokens, "less than 1");
  if (request.num_choices < 1) return OutOfRange("num_choices", request.num_choices, "less than 1");
  if (request.num_choices > plan_limits_.max_running_sequences) {
    return OutOfRange("num_choices", request.num_choices,
                      absl::StrCat("more than the ", plan_limits_.max_running_sequences,
                                   " sequences that run at once"));
  }
  if (request.min_tokens < 0) return OutOfRange("min_tokens", request.min_tokens, "less than 0");
  if (request.min_tokens > request.max_tokens) {
    return OutOfRange("min_tokens", request.min_tokens,
                      absl::StrCat("more than max_tokens, ", request.max_tokens));
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

bool EngineCore::AwaitWork() { return queue_.AwaitWork(!groups_.empty()); }

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
  TakeIn(queue_.TakeInbox());
  CheckDeadlines();
  Retire();
}

void EngineCore::TakeIn(Inbox inbox) {
  for (Arrival& arrival : inbox.arrivals) {
    last_arrival_ = std::max(last_arrival_, arrival.submitted_at);
    const uint64_t number = arrival.number;
    const Rank rank =
        Rank::Of(last_arrival_, number, arrival.request.priority, limits_.priority_ageing);
    const auto group = groups_.emplace_hint(
        groups_.end(), number, std::make_unique<RequestGroup>(std::move(arrival), rank));
    Enqueue(*group->second->sequences().front());
  }
  for (const Cancellation& cancellation : inbox.cancelled) {
    const auto group = groups_.find(cancellation.number);
    // It may have ended since.
    if (group == groups_.end() || group->second->ended()) continue;
    if (cancellation.choice.has_value()) {
      group->second->EndChoice(*cancellation.choice);
    } else {
      group->second->Fail(absl::CancelledError("the request was cancelled"));
    }
  }
}

void EngineCore::CheckDeadlines() {
  for (const auto& [number, group] : groups_) {
    if (group->ended() || now_ < group->request().deadline) continue;
    group->Fail(absl::DeadlineExceededError(absl::StrCat(
        "the deadline passed while the request was ", group->is_running() ? "running" : "waiting",
        ", after ", group->num_generated(), " generated tokens")));
  }
}

void EngineCore::MakePlan() {
  DescribeRunning();
  LimitPrompts();
  DescribeWaiting();
  const SchedulerState state{.running = running_rows_,
                             .waiting = waiting_rows_,
                             .available_blocks = blocks_.num_available(),
                             .total_blocks = blocks_.num_blocks()};
  PlanLimits limits = plan_limits_;
  limits.max_prompt_tokens = max_prompt_tokens_;
  plan_ = Plan(state, limits, std::move(plan_));
  // The first of those that run, or else of those that wait, is always planned, as Submit took only
  // what fits into all blocks. So the engine may sleep exactly when it has no requests, and needs
  // no alarm for the deadlines of those that wait.
  CHECK(!plan_.sequences.empty() || groups_.empty());
}

void EngineCore::DescribeRunning() {
  std::sort(running_.begin(), running_.end(), RanksBefore);
  // With so many blocks left, whatever a step hands out is to be had.
  const bool may_preempt = blocks_.num_available() < static_cast<int>(running_.size()) +
                                                         NumBlocksFor(plan_limits_.max_step_tokens);
  running_rows_.clear();
  for (const Sequence* sequence : running_) {
    RunningSequence& row = running_rows_.emplace_back(sequence->Running());
    if (may_preempt) row.blocks_unshared = sequence->CountUnshared(blocks_);
  }
}

void EngineCore::LimitPrompts() {
  const int num_streams =
      static_cast<int>(std::count_if(running_rows_.begin(), running_rows_.end(),
                                     [](const RunningSequence& row) { return row.is_stream(); }));
  const bool has_prompts =
      num_streams < static_cast<int>(running_rows_.size()) || !waiting_.empty();
  const int budget = pacer_.PromptBudget(num_streams);
  max_prompt_tokens_ = has_prompts && pacer_.MustMeasure(num_streams) ? 0 : budget;
  report_.SetPromptBudget(std::min(budget, plan_limits_.max_step_tokens - num_streams));
}

// Stops where the plan must, so that not every prompt is looked up in every step.
void EngineCore::DescribeWaiting() {
  int places_left = plan_limits_.max_running_sequences;
  for (const RunningSequence& row : running_rows_) places_left -= row.places;
  int64_t tokens_left = max_prompt_tokens_;
  int blocks_left = blocks_.num_available();
  waiting_rows_.clear();
  for (const Sequence* sequence : waiting_) {
    if (places_left <= 0 || tokens_left <= 0 || blocks_left <= 0) return;
    const WaitingSequence& row = waiting_rows_.emplace_back(sequence->Waiting(blocks_));
    places_left -= row.places;
    tokens_left -= row.tokens_pending;
    blocks_left -= NumBlocksFor(row.tokens_pending);
  }
}

void EngineCore::Apply() {
  PreemptLast(plan_.num_preempted);
  const size_t num_before = running_.size();
  AdmitFirst(plan_.num_admitted);
  for (const auto& [index, num_tokens] : plan_.sequences) {
    running_[index]->Grow(blocks_, num_tokens);
  }
  PublishLoad();
  for (size_t i = num_before; i < running_.size(); ++i) running_[i]->group().DeliverEvents();
}

void EngineCore::PreemptLast(int num_sequences) {
  for (int i = 0; i < num_sequences; ++i) {
    Sequence& sequence = *running_.back();
    running_.pop_back();
    sequence.Release(blocks_);
    Enqueue(sequence);
    report_.AddPreemption();
  }
}

void EngineCore::AdmitFirst(int num_sequences) {
  for (int i = 0; i < num_sequences; ++i) {
    Sequence& sequence = *waiting_[i];
    running_.push_back(&sequence);
    const int64_t num_cached = sequence.Start(blocks_);
    RequestGroup& group = sequence.group();
    if (group.started_at() != absl::InfinitePast()) continue;  // it was preempted
    group.Start(num_cached, now_);
    const Request& request = group.request();
    const bool is_looked_up = !request.bypass_prefix_cache && !request.prompt_logprobs.has_value();
    report_.AddStarted(group, is_looked_up ? group.num_prompt() : 0, num_cached, now_);
    queue_.NoteAdmitted(group.num_prompt(), num_cached);
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + num_sequences);
}

void EngineCore::Run() {
  batch_.clear();
  for (const auto& [index, num_tokens] : plan_.sequences) {
    batch_.push_back(running_[index]->NextStep(num_tokens));
  }
  const absl::Span<const model::SequenceResult> results = runner_.Run(batch_);
  CHECK(results.size() == batch_.size());
  Accept(results);
  ForkFinishedPrompts();
}

void EngineCore::Accept(absl::Span<const model::SequenceResult> results) {
  const absl::Time started_at = std::exchange(now_, clock_.Now());
  EngineReport::Step step;
  step.num_sequences = static_cast<int>(results.size());
  StepPacer::Step pace;
  for (size_t i = 0; i < results.size(); ++i) {
    const auto [index, num_tokens] = plan_.sequences[i];
    Sequence& sequence = *running_[index];
    const absl::Time last_token_at = sequence.last_token_at();
    step.num_tokens += num_tokens;
    if (IsStream(plan_.sequences[i])) {
      ++pace.num_streams;
    } else {
      pace.num_prompt_tokens += num_tokens;
    }
    step.num_prompt_tokens +=
        static_cast<int>(sequence.Accept(num_tokens, results[i], blocks_, now_));
    if (results[i].token.has_value()) {
      ++step.num_generated;
      report_.AddToken(sequence, last_token_at, now_);
    }
  }
  report_.AddStep(step, now_ - started_at);
  NoteTime(pace, now_ - started_at);
}

// Those that were admitted stand behind the rows, and nobody is where somebody was preempted.
bool EngineCore::IsStream(const PlannedSequence& planned) const {
  return static_cast<size_t>(planned.index) < running_rows_.size() &&
         running_rows_[planned.index].is_stream();
}

// Steps that were full of prompts say how fast prompts get on, and so do those that they were left
// aside in: there max_prompt_tokens_ is 0.
void EngineCore::NoteTime(const StepPacer::Step& step, absl::Duration duration) {
  const int room = std::min(max_prompt_tokens_, plan_limits_.max_step_tokens - step.num_streams);
  const bool is_full =
      step.num_prompt_tokens > 0 ? step.num_prompt_tokens >= room : max_prompt_tokens_ == 0;
  if (is_full) queue_.NoteFullStep(step.num_prompt_tokens, duration);
  pacer_.Observe({.num_streams = step.num_streams,
                  .num_prompt_tokens = step.num_prompt_tokens,
                  .seconds = absl::ToDoubleSeconds(duration)});
}

// Before Retire, as the sequence that computed the prompt may have ended already. There are places
// for the others: they were kept.
void EngineCore::ForkFinishedPrompts() {
  for (const PlannedSequence& planned : plan_.sequences) {
    RequestGroup& group = running_[planned.index]->group();
    if (!group.prompt_done() || group.num_unforked() == 0) continue;
    for (const auto& sequence : group.Fork(blocks_, runner_)) running_.push_back(sequence.get());
  }
}

// A reader who hears of a token finds it counted everywhere; one who hears of a request's end is
// served by Retire, which frees what it held first.
void EngineCore::Publish() {
  report_.AddExperts(runner_.expert_load());
  PublishLoad();
  for (const Sequence* sequence : running_) {
    if (!sequence->group().ended()) sequence->group().DeliverEvents();
  }
}

void EngineCore::Retire() {
  bool any_ended = false;
  for (std::vector<Sequence*>* sequences : {&running_, &waiting_}) {
    const auto has_ended = [&](Sequence* sequence) {
      if (!sequence->ended()) return false;
      sequence->Release(blocks_);
      return any_ended = true;
    };
    sequences->erase(std::remove_if(sequences->begin(), sequences->end(), has_ended),
                     sequences->end());
  }
  if (!any_ended) return;
  std::vector<absl::string_view> ids;
  for (auto group = groups_.begin(); group != groups_.end();) {
    if (!group->second->ended()) {
      ++group;
      continue;
    }
    ids.push_back(group->second->request().id);
    report_.AddEnded(*group->second);
    ended_.push_back(std::move(group->second));
    group = groups_.erase(group);
  }
  PublishLoad(ids);
  for (const auto& group : ended_) group->DeliverEvents();
  ended_.clear();
}

void EngineCore::EndAll(absl::string_view message) {
  TakeIn(queue_.TakeInbox());
  for (const auto& [number, group] : groups_) {
    if (!group->ended()) group->Fail(absl::UnavailableError(message));
  }
  Retire();
}

void EngineCore::Enqueue(Sequence& sequence) {
  waiting_.insert(std::upper_bound(waiting_.begin(), waiting_.end(), &sequence, RanksBefore),
                  &sequence);
}

void EngineCore::PublishLoad(absl::Span<const absl::string_view> ended_ids) {
  EngineLoad load = report_.load();
  for (const auto& [number, group] : groups_) {
    if (group->is_running()) {
      ++load.running_requests;
    } else {
      ++load.waiting_requests;
      load.waiting_prompt_tokens += group->num_prompt();
    }
  }
  load.total_kv_blocks = blocks_.num_blocks();
  load.free_kv_blocks = blocks_.num_free();
  load.cached_kv_blocks = blocks_.num_cached();
  report_.SetLoad(queue_.Update(load, ended_ids));
}

}  // namespace sluice::scheduler
