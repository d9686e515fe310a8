// StepBatch: the tokens of one step, from any mix of sequences, laid out as rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "model/model_runner.h"

namespace sluice::model {

// Row r of every activation in the step belongs to the r-th token: the sequences' tokens, one
// sequence after the other.
struct StepBatch {
  absl::Span<const SequenceStep> sequences;
  std::vector<int64_t> first_rows;  // of each sequence
  std::vector<int32_t> sequence;    // of each row
  std::vector<int64_t> position;    // of each row
  int64_t max_position = 0;

  int64_t num_rows() const { return static_cast<int64_t>(sequence.size()); }
  TokenId token(int64_t row) const {
    return sequences[sequence[row]].tokens[row - first_rows[sequence[row]]];
  }

  void Reserve(int max_tokens, int max_sequences) {
    first_rows.reserve(max_sequences);
    sequence.reserve(max_tokens);
    position.reserve(max_tokens);
  }

  // Allocates nothing within what was reserved.
  void Assign(absl::Span<const SequenceStep> steps) {
    sequences = steps;
    first_rows.clear();
    sequence.clear();
    position.clear();
    max_position = 0;
    for (size_t s = 0; s < steps.size(); ++s) {
      first_rows.push_back(num_rows());
      for (size_t i = 0; i < steps[s].tokens.size(); ++i) {
        sequence.push_back(static_cast<int32_t>(s));
        position.push_back(steps[s].first_position + static_cast<int64_t>(i));
      }
      if (!position.empty() && position.back() > max_position) max_position = position.back();
    }
  }
};

}  // namespace sluice::model
