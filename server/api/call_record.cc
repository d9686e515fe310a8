#include "api/call_record.h"

#include "base/log.h"

namespace sluice::api {
namespace {

metrics::FinishReason ReasonOf(const FinishedRequest& request) {
  if (request.status.ok()) {
    return request.reason == v1::FINISH_REASON_LENGTH ? metrics::FinishReason::kLength
                                                      : metrics::FinishReason::kStop;
  }
  switch (request.status.code()) {
    case absl::StatusCode::kCancelled:
      return metrics::FinishReason::kCancelled;
    case absl::StatusCode::kDeadlineExceeded:
      return metrics::FinishReason::kDeadlineExceeded;
    case absl::StatusCode::kUnavailable:
      return metrics::FinishReason::kUnavailable;
    default:
      return metrics::FinishReason::kError;
  }
}

// Absent for a call that went away by itself, and for one that the engine or whoever else had too
// much to do refused, and counted, with RESOURCE_EXHAUSTED.
std::optional<metrics::RejectionReason> RejectionOf(const ApiContext& api,
                                                    const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
      return std::nullopt;
    case absl::StatusCode::kAlreadyExists:
      return metrics::RejectionReason::kDuplicateId;
    case absl::StatusCode::kUnavailable:
      return api.slot.phase() == ModelSlot::Phase::kLoading ? metrics::RejectionReason::kLoading
                                                            : metrics::RejectionReason::kDraining;
    default:
      return metrics::RejectionReason::kInvalid;
  }
}

}  // namespace

void RecordFinished(const ApiContext& api, const FinishedRequest& request) {
  const absl::Time now = api.clock.Now();
  const double seconds = absl::ToDoubleSeconds(now - request.start_time);
  const metrics::RequestMetrics& metrics = api.metrics;
  metrics.requests_total(metrics::Method::kGenerate, request.status.code()).Increment();
  metrics.requests_finished_total(ReasonOf(request)).Increment();
  metrics.request_latency_seconds.Observe(seconds);
  metrics.request_prompt_tokens.Observe(request.prompt_tokens);
  metrics.request_generation_tokens.Observe(request.generated_tokens);
  base::Log().info(
      "request id={} method=Generate prompt_tokens={} generated_tokens={} seconds={:.3f} status={}",
      request.id, request.prompt_tokens, request.generated_tokens, seconds,
      absl::StatusCodeToString(request.status.code()));
}

void RecordRefused(const ApiContext& api, absl::Time start_time, const std::string& id,
                   const absl::Status& status) {
  api.metrics.requests_total(metrics::Method::kGenerate, status.code()).Increment();
  if (const auto reason = RejectionOf(api, status)) {
    api.metrics.admission_rejections_total(*reason).Increment();
  }
  base::Log().info(
      "request id={} method=Generate prompt_tokens=0 generated_tokens=0 seconds={:.3f} status={}",
      id.empty() ? "-" : id, absl::ToDoubleSeconds(api.clock.Now() - start_time),
      absl::StatusCodeToString(status.code()));
}

void RecordUnary(const ApiContext& api, metrics::Method method, absl::Time start_time,
                 const absl::Status& status) {
  api.metrics.requests_total(method, status.code()).Increment();
  base::Log().debug("request method={} seconds={:.3f} status={}",
                    metrics::kMethodNames[static_cast<size_t>(method)],
                    absl::ToDoubleSeconds(api.clock.Now() - start_time),
                    absl::StatusCodeToString(status.code()));
}

}  // namespace sluice::api
