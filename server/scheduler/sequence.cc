#include "scheduler/sequence.h"

#include <algorithm>

#include "base/check.h"

namespace sluice::scheduler {
Sequence::Sequence(Arrival arrival)
    : number_(arrival.number),
      num_prompt_(static_cast<int64_t>(arrival.request.prompt.size())),
      tokens_(std::move(arrival.request.prompt)),
      request_(std::move(arrival.request)),
      stream_(std::move(arrival.stream)),
      times_{.submitted = arrival.submitted_at} {}

int Sequence::blocks_wanted() const {
  const int64_t positions = num_prompt_ + request_.max_tokens;
  return static_cast<int>((positions + model::kKvBlockTokens - 1) / model::kKvBlockTokens);
}

void Sequence::Start(std::vector<model::BlockId> block_table, absl::Time now) {
  block_table_ = std::move(block_table);
  times_.started = now;
  events_.emplace_back(StartedEvent{});
}

model::SequenceStep Sequence::NextStep(int num_tokens) const {
  model::SequenceStep step;
  step.tokens = absl::MakeConstSpan(tokens_).subspan(tokens_computed_, num_tokens);
  step.first_position = tokens_computed_;
  step.block_table = block_table_;
  if (num_tokens == tokens_pending()) {
    step.sampling = &request_.sampling;
    step.logprobs = request_.logprobs;
  }
  if (request_.prompt_logprobs.has_value()) {
    step.targets = PromptTargets(num_tokens);
    step.prompt_logprobs = *request_.prompt_logprobs;
  }
  return step;
}

// Of the next num_tokens tokens, those that a prompt token follows: that token.
absl::Span<const TokenId> Sequence::PromptTargets(int num_tokens) const {
  const int64_t first = std::min(tokens_computed_ + 1, num_prompt_);
  const int64_t end = std::min(first + num_tokens, num_prompt_);
  return absl::MakeConstSpan(tokens_).subspan(first, end - first);
}

int Sequence::Accept(int num_tokens, const model::SequenceResult& result, absl::Time now) {
  const int64_t prompt_pending = std::max<int64_t>(num_prompt_ - tokens_computed_, 0);
  tokens_computed_ += num_tokens;
  prompt_logprobs_.insert(prompt_logprobs_.end(), result.prompt_logprobs.begin(),
                          result.prompt_logprobs.end());
  CHECK(result.token.has_value() == (tokens_pending() == 0));
  if (result.token.has_value()) AddToken(result, now);
  return static_cast<int>(std::min<int64_t>(prompt_pending, num_tokens));
}

void Sequence::AddToken(const model::SequenceResult& result, absl::Time now) {
  if (num_generated() == 0) {
    times_.first_token = now;
    if (request_.prompt_logprobs.has_value()) {
      events_.emplace_back(PromptLogprobsEvent{std::exchange(prompt_logprobs_, {})});
    }
  }
  times_.last_token = now;
  const TokenId token = *result.token;
  tokens_.push_back(token);
  events_.emplace_back(TokenEvent{.token = token, .logprob = result.logprob});

  const std::vector<TokenId>& stop_ids = request_.stop_token_ids;
  if (std::find(stop_ids.begin(), stop_ids.end(), token) != stop_ids.end()) {
    events_.emplace_back(FinishedEvent{.reason = FinishReason::kStopToken});
    ended_ = true;
  } else if (num_generated() == request_.max_tokens) {
    events_.emplace_back(FinishedEvent{.reason = FinishReason::kLength});
    ended_ = true;
  }
}

void Sequence::Fail(absl::Status status) {
  CHECK(!ended_);
  events_.emplace_back(FailedEvent{std::move(status)});
  ended_ = true;
}

void Sequence::DeliverEvents() { stream_->Put(std::exchange(events_, {})); }

}  // namespace sluice::scheduler
