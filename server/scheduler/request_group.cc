#include "scheduler/request_group.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"

namespace sluice::scheduler {

RequestGroup::RequestGroup(Arrival arrival, Rank rank)
    : num_prompt_(static_cast<int64_t>(arrival.request.prompt.size())),
      rank_(rank),
      submitted_at_(arrival.submitted_at),
      stream_(std::move(arrival.stream)),
      request_(std::move(arrival.request)),
      num_open_(request_.num_choices),
      unforked_(request_.num_choices - 1) {
  std::iota(unforked_.begin(), unforked_.end(), 1);
  sequences_.push_back(std::make_unique<Sequence>(*this, std::exchange(request_.prompt, {})));
}

int64_t RequestGroup::num_generated() const {
  int64_t num_generated = 0;
  for (const auto& sequence : sequences_) num_generated += sequence->num_generated();
  return num_generated;
}

bool RequestGroup::is_running() const {
  return std::any_of(sequences_.begin(), sequences_.end(),
                     [](const auto& sequence) { return sequence->is_running(); });
}

void RequestGroup::Start(int64_t cached_tokens, absl::Time now) {
  CHECK(started_at_ == absl::InfinitePast());
  started_at_ = now;
  NotePosition(cached_tokens);
  events_.emplace_back(StartedEvent{.cached_prompt_tokens = static_cast<int>(cached_tokens)});
}

absl::Span<const std::unique_ptr<Sequence>> RequestGroup::Fork(BlockManager& manager,
                                                               model::ModelRunner& runner) {
  CHECK(prompt_done());
  const size_t num_before = sequences_.size();
  for (const int choice : std::exchange(unforked_, {})) {
    sequences_.push_back(sequences_.front()->Fork(choice, manager, runner));
  }
  return absl::MakeConstSpan(sequences_).subspan(num_before);
}

int64_t RequestGroup::NotePosition(int64_t end) {
  const int64_t before = positions_noted_;
  positions_noted_ = std::max(before, std::min(end, num_prompt_));
  return positions_noted_ - before;
}

void RequestGroup::AddPromptLogprobs(int64_t first_position,
                                     absl::Span<const model::TokenLogprob> logprobs) {
  if (logprobs.empty()) return;
  const int64_t num_known = num_prompt_logprobs() - first_position;
  CHECK(num_known >= 0);
  if (num_known >= static_cast<int64_t>(logprobs.size())) return;
  prompt_logprobs_.insert(prompt_logprobs_.end(), logprobs.begin() + num_known, logprobs.end());
}

void RequestGroup::AddToken(TokenEvent event, absl::Time now) {
  if (!prompt_done()) {
    first_token_at_ = now;
    if (request_.prompt_logprobs.has_value()) {
      events_.emplace_back(PromptLogprobsEvent{std::exchange(prompt_logprobs_, {})});
    }
  }
  events_.emplace_back(std::move(event));
}

void RequestGroup::Finish(FinishedEvent event) {
  events_.emplace_back(event);
  --num_open_;
}

void RequestGroup::Fail(absl::Status status) {
  CHECK(!ended());
  for (const auto& sequence : sequences_) sequence->End();
  unforked_.clear();
  num_open_ = 0;
  events_.emplace_back(FailedEvent{std::move(status)});
}

void RequestGroup::EndChoice(int choice) {
  const auto unforked = std::find(unforked_.begin(), unforked_.end(), choice);
  if (unforked != unforked_.end()) {
    unforked_.erase(unforked);
    --num_open_;
    return;
  }
  for (const auto& sequence : sequences_) {
    if (sequence->choice() != choice || sequence->ended()) continue;
    --num_open_;
    if (unforked_.empty()) {
      sequence->End();
    } else {
      // It computes the prompt, which the others still need.
      sequence->ComputeFor(unforked_.front());
      unforked_.erase(unforked_.begin());
    }
    return;
  }
}

void RequestGroup::DeliverEvents() { stream_->Put(std::exchange(events_, {})); }

}  // namespace sluice::scheduler
