// The process_* families that every Prometheus client library exports, read from /proc.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

namespace sluice::metrics {

// Reads the process's figures now. A family whose source cannot be read is left out. `proc` stands
// in for /proc in tests.
std::vector<prometheus::MetricFamily> CollectProcess(const std::string& proc = "/proc");

}  // namespace sluice::metrics
