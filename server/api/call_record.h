// What is recorded of a call when it ends: metrics, and one line in the log. Never prompts or
// answers.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "api/api_context.h"
#include "metrics/request_metrics.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::api {

// A request that the engine took on.
struct FinishedRequest {
  // The call that it came by.
  metrics::Method method = metrics::Method::kGenerate;
  std::string id;
  int prompt_tokens = 0;
  int generated_tokens = 0;
  absl::Time start_time;
  std::optional<absl::Time> first_token_time;
  // If `status` is OK.
  v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED;
  absl::Status status;
};

// All are thread-safe.
void RecordFinished(const ApiContext& api, const FinishedRequest& request);
// A request for an answer that was refused; `id` is empty if it is not known.
void RecordRefused(const ApiContext& api, metrics::Method method, absl::Time start_time,
                   const std::string& id, const absl::Status& status);
// A call of any other method.
void RecordUnary(const ApiContext& api, metrics::Method method, absl::Time start_time,
                 const absl::Status& status);

}  // namespace sluice::api
