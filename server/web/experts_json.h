// ExpertsJson: what the built-in page shows, as JSON. README.md describes every field.
#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "metrics/server_metrics.h"

namespace sluice::web {

// `state` is one word; `start` tells readers which answers are of one process, `uptime` how much
// time lies between two of these. At most about 50 bytes for each expert of each layer, and 8 KiB.
std::string ExpertsJson(const metrics::ServerMetrics& metrics, absl::string_view state,
                        absl::Time start, absl::Duration uptime);

}  // namespace sluice::web
