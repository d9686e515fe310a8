// RunLoad: sends many Generate calls to a server and measures how it answers.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "cli/latency_histogram.h"
#include "client/client.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::cli {

struct LoadPlan {
  // Open loop: when each request is meant to start, in order. Whether earlier ones have been
  // answered does not matter. Empty: closed loop, in which each request is sent as soon as there is
  // a free place.
  std::vector<absl::Duration> arrivals;
  // Closed loop: how many requests.
  int64_t num_requests = 0;
  // Calls at a time. In an open loop, a request that would be one too many is sent when there is a
  // free place; its times are counted from when it was meant to start all the same, so that a
  // server that falls behind cannot hide it.
  int max_in_flight = 1;
};

// Times and tokens cover the requests that succeeded.
struct LoadReport {
  int64_t num_ok = 0;
  std::map<absl::StatusCode, int64_t> failed;
  // Of the first request that failed, if one did.
  absl::Status first_error;
  // From the first start to the last end.
  absl::Duration elapsed;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  // From the intended start of a request: to its first token, and to its end.
  LatencyHistogram first_token;
  LatencyHistogram latency;
  // Between tokens; of tokens that come together each has an equal part.
  LatencyHistogram inter_token;
  // From the intended to the real start.
  LatencyHistogram send_delay;
};

// Returns when all requests have ended. `make_request` gives request i; it is called on this thread
// alone.
LoadReport RunLoad(const client::Client& client, const LoadPlan& plan,
                   const client::CallOptions& call_options,
                   const std::function<v1::GenerateRequest(int64_t i)>& make_request,
                   const base::Clock& clock = base::Clock::System());

}  // namespace sluice::cli
