// LogitEditor: changes the logits that a request's options speak of, and puts them back.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/token.h"
#include "model/model_runner.h"

namespace sluice::model {

// What a token is drawn after, and which it must not be; as in SequenceStep.
struct DrawContext {
  absl::Span<const TokenId> history;
  int64_t num_prompt_tokens = 0;
  // Ids beyond the vocabulary mean nothing.
  absl::Span<const TokenId> suppressed;
};

// Not thread-safe. Time grows with the tokens that are named and, if there are penalties, with the
// history; never with the vocabulary. Memory grows to the most distinct tokens named at once.
class LogitEditor {
 public:
  explicit LogitEditor(int vocab_size);

  // Applies logit_bias, repetition_penalty, presence_penalty and frequency_penalty, in this order,
  // and makes suppressed tokens impossible. REQUIRES: what was applied before has been undone.
  void Apply(absl::Span<float> logits, const SamplingParams& params, const DrawContext& context);

  // Restores every bit of the logits given to Apply.
  void Undo(absl::Span<float> logits);

 private:
  // A token whose logit changes.
  struct Change {
    TokenId token;
    float original;
    float bias = 0;
    // How often it stands in the answer.
    int32_t num_generated = 0;
    // Whether it stands in the prompt or in the answer.
    bool known = false;
    bool suppressed = false;
  };

  // The change of this token, made if there is none yet.
  Change& ChangeOf(TokenId token, absl::Span<const float> logits);

  std::vector<Change> changes_;
  std::vector<uint32_t>
      places_;  // [V]; 0: unchanged, otherwise one more than its place in changes_
};

}  // namespace sluice::model
