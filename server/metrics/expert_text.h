// Writes an ExpertLoad in the Prometheus text format, straight into a string: a model may have tens
// of thousands of experts, for which prometheus::TextSerializer would take too long.
#pragma once

#include <string>

#include "metrics/expert_load.h"

namespace sluice::metrics {

// With `per_expert`, expert_tokens_total and expert_weight_total have a series for each expert of
// each layer; otherwise only the per-layer families are there. Every series is there from the
// start, as zero.
void AppendExperts(const ExpertLoad::Snapshot& snapshot, bool per_expert, std::string& text);

}  // namespace sluice::metrics
