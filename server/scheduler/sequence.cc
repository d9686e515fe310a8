#include "scheduler/sequence.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "scheduler/request_group.h"

namespace sluice::scheduler {

Sequence::Sequence(RequestGroup& group, std::vector<TokenId> prompt)
    : Sequence(group, 0, std::move(prompt)) {}

Sequence::Sequence(RequestGroup& group, int choice, std::vector<TokenId> tokens)
    : group_(group),
      choice_(choice),
      sampling_(group.request().sampling),
      tokens_(std::move(tokens)) {
  sampling_.seed = ChoiceSeed(group.request().sampling.seed, choice);
}

int64_t Sequence::num_generated() const { return num_known() - group_.num_prompt(); }

bool Sequence::RanksBefore(const Sequence& other) const {
  if (&group_ != &other.group_) return group_.rank() < other.group_.rank();
  return choice_ < other.choice_;
}

WaitingSequence Sequence::Waiting(const BlockManager& manager) const {
  const CachedPrefix cached =
      FindCachedPrefix(manager, group_.request().cache_salt, CacheableTokens());
  return {.tokens_pending = num_known() - int64_t{cached.num_blocks} * model::kKvBlockTokens,
          .cached_blocks = cached.num_blocks,
          .idle_blocks = cached.num_idle,
          .places = 1 + group_.num_unforked()};
}

RunningSequence Sequence::Running() const {
  return {.tokens_pending = tokens_pending(),
          .tokens_computed = tokens_computed_,
          .num_blocks = table_.num_blocks(),
          .places = 1 + group_.num_unforked()};
}

// What may be found instead of computed.
absl::Span<const TokenId> Sequence::CacheableTokens() const {
  const Request& request = group_.request();
  if (request.bypass_prefix_cache) return {};
  int64_t num_tokens = num_known() - 1;
  if (request.prompt_logprobs.has_value() && !group_.prompt_done()) {
    num_tokens = std::min(num_tokens, group_.num_prompt_logprobs());
  }
  return absl::MakeConstSpan(tokens_).first(num_tokens);
}

int64_t Sequence::Start(BlockManager& manager) {
  CHECK(!is_running_);
  is_running_ = true;
  table_.TakeCachedPrefix(manager, group_.request().cache_salt, CacheableTokens());
  tokens_computed_ = int64_t{table_.num_blocks()} * model::kKvBlockTokens;
  return tokens_computed_;
}

void Sequence::Grow(BlockManager& manager, int num_tokens) {
  table_.Grow(manager, tokens_computed_ + num_tokens);
}

model::SequenceStep Sequence::NextStep(int num_tokens) const {
  const Request& request = group_.request();
  model::SequenceStep step;
  step.tokens = absl::MakeConstSpan(tokens_).subspan(tokens_computed_, num_tokens);
  step.first_position = tokens_computed_;
  step.block_table = table_.blocks();
  if (num_tokens == tokens_pending()) {
    step.sampling = &sampling_;
    step.history = tokens_;
    step.num_prompt_tokens = group_.num_prompt();
    if (num_generated() < request.min_tokens) step.suppressed = request.stop_token_ids;
    step.logprobs = request.logprobs;
  }
  if (request.prompt_logprobs.has_value() && !group_.prompt_done()) {
    step.targets = PromptTargets(num_tokens);
    step.prompt_logprobs = *request.prompt_logprobs;
  }
  return step;
}

// Of the next num_tokens tokens, those that a prompt token follows: that token. None, if the
// log-probabilities of all of them are known, as the sequence was preempted.
absl::Span<const TokenId> Sequence::PromptTargets(int num_tokens) const {
  if (tokens_computed_ + num_tokens <= group_.num_prompt_logprobs()) return {};
  const int64_t first = std::min(tokens_computed_ + 1, group_.num_prompt());
  const int64_t end = std::min(first + num_tokens, group_.num_prompt());
  return absl::MakeConstSpan(tokens_).subspan(first, end - first);
}

int64_t Sequence::Accept(int num_tokens, const model::SequenceResult& result, BlockManager& manager,
                         absl::Time now) {
  group_.AddPromptLogprobs(tokens_computed_, result.prompt_logprobs);
  tokens_computed_ += num_tokens;
  const Request& request = group_.request();
  if (!request.bypass_prefix_cache) {
    table_.RegisterFull(manager, request.cache_salt,
                        absl::MakeConstSpan(tokens_).first(tokens_computed_));
  }
  CHECK(result.token.has_value() == (tokens_pending() == 0));
  if (result.token.has_value()) AddToken(result, now);
  return group_.NotePosition(tokens_computed_);
}

void Sequence::AddToken(const model::SequenceResult& result, absl::Time now) {
  if (num_generated() == 0) first_token_at_ = now;
  last_token_at_ = now;
  const TokenId token = *result.token;
  tokens_.push_back(token);
  group_.AddToken({.choice = choice_, .token = token, .logprob = result.logprob}, now);

  const Request& request = group_.request();
  const std::vector<TokenId>& stop_ids = request.stop_token_ids;
  if (std::find(stop_ids.begin(), stop_ids.end(), token) != stop_ids.end()) {
    group_.Finish({.choice = choice_, .reason = FinishReason::kStopToken});
    ended_ = true;
  } else if (num_generated() == request.max_tokens) {
    group_.Finish({.choice = choice_, .reason = FinishReason::kLength});
    ended_ = true;
  }
}

std::unique_ptr<Sequence> Sequence::Fork(int choice, BlockManager& manager,
                                         model::ModelRunner& runner) const {
  const int64_t num_shared = group_.num_prompt() - 1;
  CHECK(tokens_computed_ > num_shared);
  std::vector<TokenId> prompt(tokens_.begin(), tokens_.begin() + group_.num_prompt());
  std::unique_ptr<Sequence> fork(new Sequence(group_, choice, std::move(prompt)));
  fork->table_ = table_.Fork(manager, runner, num_shared);
  fork->tokens_computed_ =
      std::min(num_shared, int64_t{fork->table_.num_blocks()} * model::kKvBlockTokens);
  fork->is_running_ = true;
  return fork;
}

void Sequence::ComputeFor(int choice) {
  CHECK(num_generated() == 0);
  choice_ = choice;
  sampling_.seed = ChoiceSeed(group_.request().sampling.seed, choice);
}

void Sequence::Release(BlockManager& manager) {
  table_.Release(manager);
  tokens_computed_ = 0;
  is_running_ = false;
}

}  // namespace sluice::scheduler
