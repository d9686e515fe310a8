// Turns an ExpertLoad into metric families, at the moment of a scrape.
#pragma once

#include <prometheus/metric_family.h>

#include <vector>

#include "metrics/expert_load.h"

namespace sluice::metrics {

// With `per_expert`, expert_tokens_total and expert_weight_total have a series for each expert of
// each layer; otherwise only the per-layer families are there. Every series is there from the
// start, as zero.
std::vector<prometheus::MetricFamily> CollectExperts(const ExpertLoad& load, bool per_expert);

}  // namespace sluice::metrics
