#include "model/logit_editor.h"

#include <limits>

#include "base/check.h"

namespace sluice::model {
namespace {

// Enough for most requests.
constexpr size_t kExpectedChanges = 2048;

}  // namespace

LogitEditor::LogitEditor(int vocab_size) : places_(vocab_size, 0) {
  changes_.reserve(kExpectedChanges);
}

LogitEditor::Change& LogitEditor::ChangeOf(TokenId token, absl::Span<const float> logits) {
  DCHECK(token >= 0 && static_cast<size_t>(token) < places_.size());
  uint32_t& place = places_[token];
  if (place == 0) {
    changes_.push_back({.token = token, .original = logits[token]});
    place = static_cast<uint32_t>(changes_.size());
  }
  return changes_[place - 1];
}

void LogitEditor::Apply(absl::Span<float> logits, const SamplingParams& params,
                        const DrawContext& context) {
  DCHECK(changes_.empty() && logits.size() == places_.size());
  for (const auto& [token, bias] : params.logit_bias) ChangeOf(token, logits).bias = bias;
  const bool of_answer = params.presence_penalty != 0 || params.frequency_penalty != 0;
  if (params.repetition_penalty != 1) {
    for (const TokenId token : context.history) ChangeOf(token, logits).known = true;
  }
  if (of_answer) {
    for (const TokenId token : context.history.subspan(context.num_prompt_tokens)) {
      ++ChangeOf(token, logits).num_generated;
    }
  }
  for (const TokenId token : context.suppressed) {
    if (static_cast<size_t>(token) < places_.size()) ChangeOf(token, logits).suppressed = true;
  }

  for (const Change& change : changes_) {
    float logit = change.original + change.bias;
    if (change.known) {
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    if (change.num_generated > 0) {
      logit -= params.presence_penalty +
               params.frequency_penalty * static_cast<float>(change.num_generated);
    }
    if (change.suppressed) logit = -std::numeric_limits<float>::infinity();
    logits[change.token] = logit;
  }
}

void LogitEditor::Undo(absl::Span<float> logits) {
  for (const Change& change : changes_) {
    logits[change.token] = change.original;
    places_[change.token] = 0;
  }
  changes_.clear();
}

}  // namespace sluice::model
