// RequestMetrics: what the api reports about calls, as references to metric objects that were
// looked up once. Thread-safe, and never held up by a scrape (see engine_metrics.h).
#pragma once

#include <prometheus/counter.h>

#include <array>
#include <cstddef>

#include "absl/status/status.h"
#include "metrics/histogram.h"

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
  // Of inference.GRPCInferenceService; ModelStreamInfer counts each request of a stream.
  kServerLive,
  kServerReady,
  kModelReady,
  kServerMetadata,
  kModelMetadata,
  kModelInfer,
  kModelStreamInfer,
};
inline constexpr size_t kNumMethods = 15;
// In the order of the enum.
inline constexpr std::array<const char*, kNumMethods> kMethodNames = {
    "Generate",   "Tokenize",       "Detokenize",    "GetServerInfo", "GetModelInfo",
    "GetLoad",    "GetExpertLoad",  "Abort",         "ServerLive",    "ServerReady",
    "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",    "ModelStreamInfer"};

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
// In the order of the enum.
inline constexpr std::array<const char*, kNumFinishReasons> kFinishReasonNames = {
    "stop", "length", "cancelled", "deadline_exceeded", "unavailable", "error"};
inline const char* NameOf(FinishReason reason) {
  return kFinishReasonNames[static_cast<size_t>(reason)];
}

// Why a request was not admitted, for admission_rejections_total{reason}.
enum class RejectionReason {
  kQueueFull,        // RESOURCE_EXHAUSTED: too many requests wait; counted by the engine
  kQueueTokens,      // RESOURCE_EXHAUSTED: too many prompt tokens wait; counted by the engine
  kDeadline,         // RESOURCE_EXHAUSTED: its deadline could not be met; counted by the engine
  kTooManyCalls,     // RESOURCE_EXHAUSTED: too many answers are open, or texts to be tokenized
  kLoading,          // UNAVAILABLE: the model is not loaded yet
  kDraining,         // UNAVAILABLE: the server is stopping
  kInvalid,          // INVALID_ARGUMENT: it can never run
  kDuplicateId,      // ALREADY_EXISTS
  kUnauthenticated,  // UNAUTHENTICATED: no token, or one that is not known
  kTokenLimit,       // RESOURCE_EXHAUSTED: the token's own rate or number of calls
};
inline constexpr size_t kNumRejectionReasons = 10;

// gRPC's status codes, OK (0) to UNAUTHENTICATED (16).
inline constexpr size_t kNumCodes = 17;

struct RequestMetrics {
  Histogram& request_latency_seconds;
  Histogram& request_prompt_tokens;
  Histogram& request_generation_tokens;
  prometheus::Counter& access_log_dropped_lines_total;
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
