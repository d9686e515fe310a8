// RequestMetrics: what the api reports about calls, as references to metric objects that were
// looked up once. Thread-safe.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/histogram.h>

#include <array>
#include <cstddef>

#include "absl/status/status.h"

namespace sluice::metrics {

// The calls of the wire, as label values of requests_total{method}.
enum class Method {
  kGenerate,
  kTokenize,
  kDetokenize,
  kGetServerInfo,
  kGetModelInfo,
  kGetLoad,
  kGetExpertLoad,
  kAbort,
};
inline constexpr size_t kNumMethods = 8;
// In the order of the enum.
inline constexpr std::array<const char*, kNumMethods> kMethodNames = {
    "Generate",     "Tokenize", "Detokenize",    "GetServerInfo",
    "GetModelInfo", "GetLoad",  "GetExpertLoad", "Abort"};

// How an admitted request ended, for requests_finished_total{reason}.
enum class FinishReason {
  kStop,              // an end-of-sequence token, a stop token or a stop string
  kLength,            // max_tokens were generated
  kCancelled,         // by the client, a dropped stream or Abort
  kDeadlineExceeded,  // the call's deadline passed
  kUnavailable,       // the server stopped
  kError,             // anything else
};
inline constexpr size_t kNumFinishReasons = 6;

// Why a request was not admitted, for admission_rejections_total{reason}.
enum class RejectionReason {
  kQueueFull,     // RESOURCE_EXHAUSTED: too many requests wait; counted by the engine
  kQueueTokens,   // RESOURCE_EXHAUSTED: too many prompt tokens wait; counted by the engine
  kDeadline,      // RESOURCE_EXHAUSTED: its deadline could not be met; counted by the engine
  kTooManyCalls,  // RESOURCE_EXHAUSTED: too many answers are open, or texts to be tokenized
  kLoading,       // UNAVAILABLE: the model is not loaded yet
  kDraining,      // UNAVAILABLE: the server is stopping
  kInvalid,       // INVALID_ARGUMENT: it can never run
  kDuplicateId,   // ALREADY_EXISTS
};
inline constexpr size_t kNumRejectionReasons = 8;

// gRPC's status codes, OK (0) to UNAUTHENTICATED (16).
inline constexpr size_t kNumCodes = 17;

struct RequestMetrics {
  prometheus::Histogram& request_latency_seconds;
  prometheus::Histogram& request_prompt_tokens;
  prometheus::Histogram& request_generation_tokens;
  std::array<std::array<prometheus::Counter*, kNumCodes>, kNumMethods> requests_by_method;
  std::array<prometheus::Counter*, kNumFinishReasons> finished_by_reason;
  std::array<prometheus::Counter*, kNumRejectionReasons> rejections_by_reason;

  // Counters of the three labelled families. A code that gRPC does not know counts as UNKNOWN.
  prometheus::Counter& requests_total(Method method, absl::StatusCode code) const {
    const auto number = static_cast<size_t>(code);
    return *requests_by_method[static_cast<size_t>(
        method)][number < kNumCodes ? number : static_cast<size_t>(absl::StatusCode::kUnknown)];
  }
  prometheus::Counter& requests_finished_total(FinishReason reason) const {
    return *finished_by_reason[static_cast<size_t>(reason)];
  }
  prometheus::Counter& admission_rejections_total(RejectionReason reason) const {
    return *rejections_by_reason[static_cast<size_t>(reason)];
  }
};

}  // namespace sluice::metrics
