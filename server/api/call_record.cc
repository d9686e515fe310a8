#include "api/call_record.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "api/access_log.h"

namespace sluice::api {
namespace {

using Json = nlohmann::ordered_json;

// Bytes of a prompt or an answer that is logged; the rest is cut.
constexpr size_t kMaxLoggedText = 64 * 1024;
// Token ids of a prompt that is logged: these take 8 bytes each, or less.
constexpr int kMaxLoggedIds = kMaxLoggedText / 8;
// Bytes of a message's role.
constexpr size_t kMaxLoggedRole = 64;
// Choices whose answers are logged.
constexpr size_t kMaxLoggedAnswers = 64;

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
std::optional<metrics::RejectionReason> RejectionOf(const ApiContext& api, const ArrivedCall& call,
                                                    const absl::Status& status) {
  if (absl::IsUnauthenticated(call.admission())) return metrics::RejectionReason::kUnauthenticated;
  if (!call.admission().ok()) return metrics::RejectionReason::kTokenLimit;
  switch (status.code()) {
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
      return std::nullopt;
    case absl::StatusCode::kAlreadyExists:
      return metrics::RejectionReason::kDuplicateId;
    case absl::StatusCode::kUnauthenticated:
      return metrics::RejectionReason::kUnauthenticated;
    case absl::StatusCode::kUnavailable:
      return api.slot.phase() == ModelSlot::Phase::kLoading ? metrics::RejectionReason::kLoading
                                                            : metrics::RejectionReason::kDraining;
    default:
      return metrics::RejectionReason::kInvalid;
  }
}

// What can be said of every call that has ended now. Texts are cut or come from clients: bytes that
// are not UTF-8 are replaced.
Json LineOf(const ApiContext& api, const ArrivedCall& call, absl::Time start_time,
            const absl::Status& status, const std::string& id) {
  const absl::Time now = api.clock.Now();
  Json line;
  line["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", now, absl::UTCTimeZone());
  if (!id.empty()) line["request_id"] = id;
  line["method"] = metrics::kMethodNames[static_cast<size_t>(call.method())];
  line["peer"] = call.peer();
  if (!call.token_name().empty()) line["token"] = call.token_name();
  if (const auto model = api.slot.ForReading(); model.ok()) line["model"] = (*model)->facts.name;
  line["seconds"] = absl::ToDoubleSeconds(now - start_time);
  line["status"] = absl::StatusCodeToString(status.code());
  if (!call.trace_id().empty()) line["trace_id"] = call.trace_id();
  return line;
}

void Write(const ApiContext& api, const Json& line) {
  api.access_log->Write(line.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void AddSeconds(const char* name, absl::Time start, std::optional<absl::Time> end, Json& line) {
  if (end) line[name] = absl::ToDoubleSeconds(*end - start);
}

// As much of the prompt as is logged.
v1::GenerateRequest CutPrompt(const v1::GenerateRequest& request) {
  v1::GenerateRequest cut;
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      cut.set_text(request.text().substr(0, kMaxLoggedText));
      break;
    case v1::GenerateRequest::kTokenIds: {
      const auto& ids = request.token_ids().ids();
      cut.mutable_token_ids()->mutable_ids()->Add(
          ids.begin(), ids.begin() + std::min(ids.size(), kMaxLoggedIds));
      break;
    }
    case v1::GenerateRequest::kChat:
      for (size_t left = kMaxLoggedText;
           const v1::ChatMessage& message : request.chat().messages()) {
        v1::ChatMessage& cut_message = *cut.mutable_chat()->add_messages();
        cut_message.set_role(message.role().substr(0, kMaxLoggedRole));
        cut_message.set_content(message.content().substr(0, left));
        // A message without text takes room in the line, too.
        const size_t bytes = cut_message.content().size() + kMaxLoggedRole;
        if (bytes >= left) break;
        left -= bytes;
      }
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return cut;
}

// A text, a list of token ids, or a list of messages.
Json PromptOf(const v1::GenerateRequest& request) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      return request.text();
    case v1::GenerateRequest::kTokenIds:
      return std::vector<int>(request.token_ids().ids().begin(), request.token_ids().ids().end());
    case v1::GenerateRequest::kChat: {
      Json messages = Json::array();
      for (const v1::ChatMessage& message : request.chat().messages()) {
        messages.push_back({{"role", message.role()}, {"content", message.content()}});
      }
      return messages;
    }
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return nullptr;
}

}  // namespace

std::optional<LoggedTexts> TextsToLog(const ApiContext& api, const v1::GenerateRequest& request) {
  if (api.access_log == nullptr || !api.access_log->log_prompts()) return std::nullopt;
  return LoggedTexts{CutPrompt(request), {}};
}

void AddAnswer(const v1::GenerateResponse& response, LoggedTexts& texts) {
  if (!response.has_delta()) return;
  const auto choice = static_cast<size_t>(response.delta().choice());
  if (choice >= kMaxLoggedAnswers) return;
  if (texts.answers.size() <= choice) texts.answers.resize(choice + 1);
  std::string& answer = texts.answers[choice];
  answer.append(response.delta().text(), 0, kMaxLoggedText - answer.size());
}

void RecordFinished(const ApiContext& api, const ArrivedCall& call,
                    const FinishedRequest& request) {
  const absl::Time now = api.clock.Now();
  const metrics::RequestMetrics& metrics = api.metrics;
  const auto reason = ReasonOf(request);
  metrics.requests_total(call.method(), request.status.code()).Increment();
  metrics.requests_finished_total(reason).Increment();
  metrics.request_latency_seconds.Observe(absl::ToDoubleSeconds(now - request.start_time));
  metrics.request_prompt_tokens.Observe(request.prompt_tokens);
  metrics.request_generation_tokens.Observe(request.generated_tokens);
  if (api.access_log == nullptr) return;
  Json line = LineOf(api, call, request.start_time, request.status, request.id);
  line["finish_reason"] = metrics::NameOf(reason);
  line["prompt_tokens"] = request.prompt_tokens;
  line["cached_prompt_tokens"] = request.cached_prompt_tokens;
  line["generated_tokens"] = request.generated_tokens;
  AddSeconds("queue_seconds", request.start_time, request.admitted_time, line);
  AddSeconds("first_token_seconds", request.start_time, request.first_token_time, line);
  if (request.texts) {
    line["prompt"] = PromptOf(request.texts->prompt);
    line["answers"] = request.texts->answers;
  }
  Write(api, line);
}

void RecordRefused(const ApiContext& api, const ArrivedCall& call, absl::Time start_time,
                   const std::string& id, const absl::Status& status) {
  api.metrics.requests_total(call.method(), status.code()).Increment();
  if (const auto reason = RejectionOf(api, call, status)) {
    api.metrics.admission_rejections_total(*reason).Increment();
  }
  if (api.access_log != nullptr) Write(api, LineOf(api, call, start_time, status, id));
}

void RecordUnary(const ApiContext& api, const ArrivedCall& call, const absl::Status& status) {
  api.metrics.requests_total(call.method(), status.code()).Increment();
  if (api.access_log != nullptr) Write(api, LineOf(api, call, call.start_time(), status, ""));
}

}  // namespace sluice::api
