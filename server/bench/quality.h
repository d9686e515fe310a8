// Quality: how far the engine's formats of weights move a model's next-token distributions from
// those that it has with f32 weights, on the same tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/token.h"
#include "kernels/element_types.h"
#include "model/checkpoint.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace sluice::bench {

// A prompt with its answer, as the model sees them.
struct QualityText {
  std::vector<TokenId> tokens;
  size_t answer_begin = 0;  // index of the answer's first token; at least 1
};

// The cases of a file like models/demo/golden.json: prompt_ids and completion_ids.
// NOT_FOUND if the file cannot be read, INVALID_ARGUMENT, naming file and field, if it is
// malformed.
absl::StatusOr<std::vector<QualityText>> ReadGoldenTexts(const std::string& file);

// A conversation for each line of a file like models/demo/heldout.jsonl: an object with the strings
// prompt and reference, rendered by the model's chat template. Errors as above, naming the line.
absl::StatusOr<std::vector<QualityText>> ReadConversations(
    const std::string& file, const tokenizer::Tokenizer& tokenizer,
    const tokenizer::ChatTemplate& chat_template);

// A name for a set of texts, and what a format does to them. A position is a token with a next one;
// those whose next token belongs to an answer are the answers' positions.
struct QualityRow {
  std::string format;
  std::string texts;
  int64_t positions = 0;
  int64_t answer_positions = 0;
  // Of all positions: mean over them of KL(f32 || format), in nats (Kullback and Leibler 1951).
  double mean_kl = 0;
  // Of the answers' positions: how often the most probable token is the same, and exp(-mean
  // log-probability of the next token) with either.
  double argmax_agreement = 0;
  double f32_perplexity = 0;
  double perplexity = 0;

  // Relative.
  double perplexity_change() const { return perplexity / f32_perplexity - 1; }
};

// Collects one row. Used by one thread.
class QualityTally {
 public:
  // The logits of one position in f32's and the format's view, and the token that follows.
  void Add(absl::Span<const float> f32_logits, absl::Span<const float> logits, TokenId next,
           bool is_answer);

  QualityRow Row(const std::string& format, const std::string& texts) const;

 private:
  int64_t positions_ = 0;
  int64_t answer_positions_ = 0;
  int64_t agreements_ = 0;
  double kl_ = 0;
  double f32_log_likelihood_ = 0;
  double log_likelihood_ = 0;
};

// Runs the texts with f32 and with `format`, side by side, each in steps of up to 256 tokens; both
// sets of weights are in memory at once. INVALID_ARGUMENT if a token is beyond the vocabulary or a
// text beyond the model's context; otherwise errors as CpuModelRunner::Create's.
absl::StatusOr<QualityRow> MeasureQuality(const model::Checkpoint& checkpoint,
                                          kernels::WeightFormat format, int num_threads,
                                          const std::string& name,
                                          absl::Span<const QualityText> texts);

// For people, and one JSON array.
std::string QualityTable(absl::Span<const QualityRow> rows);
std::string QualityJson(absl::Span<const QualityRow> rows);

}  // namespace sluice::bench
