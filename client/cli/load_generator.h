// RunLoad: starts many Generate calls and measures how they are answered.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "cli/latency_histogram.h"
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

// Which calls the client itself ends, and when: the same for the same seed.
struct CancelPlan {
  // Of the calls, from 0 to 1.
  double share = 0;
  // They end at a random time up to this after they were sent, unless they have ended by then.
  absl::Duration within = absl::Seconds(1);
  uint64_t seed = 1;

  // When call i is to be ended; absent: not at all.
  std::optional<absl::Duration> TimeOf(int64_t i) const;
};

// Times and tokens cover the requests that succeeded.
struct LoadReport {
  // Sent; each of them is counted once among those that went well and those that failed.
  int64_t num_requests = 0;
  int64_t num_ok = 0;
  std::map<absl::StatusCode, int64_t> failed;
  // Those of them that the server had no room for: RESOURCE_EXHAUSTED before any event.
  int64_t num_refused = 0;
  // From sending such a request to its refusal.
  LatencyHistogram refusal;
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

// Starts call i, as client::Client::StartGenerate does; called on one thread alone.
using StartCall =
    std::function<void(int64_t i, std::function<void(const v1::GenerateResponse&)> on_event,
                       std::function<void(const absl::Status&)> on_done)>;

// Returns when all calls have ended. The clock is slept by only where an arrival lies in its
// future.
LoadReport RunLoad(const LoadPlan& plan, const StartCall& start_call,
                   const base::Clock& clock = base::Clock::System());

}  // namespace sluice::cli
