// What is recorded of a call when it ends: metrics, and one line in the access log. Never prompts
// or answers, unless a flag says so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "api/api_context.h"
#include "api/arrived_call.h"
#include "metrics/request_metrics.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::api {

// Prompt and answers of a call, for the access log alone: as much of them as its line holds.
struct LoggedTexts {
  // The request's prompt, cut, and nothing else.
  v1::GenerateRequest prompt;
  // By choice, cut.
  std::vector<std::string> answers;
};

// For `request`, with no answers yet; absent if texts are not to be logged.
std::optional<LoggedTexts> TextsToLog(const ApiContext& api, const v1::GenerateRequest& request);
// Adds what `response` says of the answers.
void AddAnswer(const v1::GenerateResponse& response, LoggedTexts& texts);

// A request that the engine took on.
struct FinishedRequest {
  std::string id;
  int prompt_tokens = 0;
  int cached_prompt_tokens = 0;
  int generated_tokens = 0;
  absl::Time start_time;
  // When it left the queue, and when its first token came.
  std::optional<absl::Time> admitted_time;
  std::optional<absl::Time> first_token_time;
  // If `status` is OK.
  v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED;
  absl::Status status;
  std::optional<LoggedTexts> texts;
};

// All are thread-safe.
void RecordFinished(const ApiContext& api, const ArrivedCall& call, const FinishedRequest& request);
// A request for an answer that was refused; `id` is empty if it is not known.
void RecordRefused(const ApiContext& api, const ArrivedCall& call, absl::Time start_time,
                   const std::string& id, const absl::Status& status);
// A call of any other method.
void RecordUnary(const ApiContext& api, const ArrivedCall& call, const absl::Status& status);

}  // namespace sluice::api
