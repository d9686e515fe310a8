// LiveRequest: one request on its way through the engine, whichever service it came by: submitted,
// read until it ends, recorded. How its messages reach the client is the business of the reactor
// that owns it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "api/answer.h"
#include "api/api_context.h"
#include "api/arrived_call.h"
#include "api/call_record.h"
#include "scheduler/token_stream.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::api {

// Not thread-safe, except for CancelInEngine: its reactor's lock guards it.
class LiveRequest {
 public:
  // `call`, which it came with, must outlive this; its reactor holds a ticket of api.active_calls.
  // `start_time` is when this request came, which need not be the call's first.
  LiveRequest(ApiContext& api, const ArrivedCall& call, absl::Time start_time)
      : api_(api), call_(call), start_time_(start_time) {}
  LiveRequest(ApiContext& api, const ArrivedCall& call)
      : LiveRequest(api, call, call.start_time()) {}

  // Submits what `make_request` returns to the engine; if that is not possible, or the call was not
  // admitted, end() says why.
  // `on_readable` is called as TokenStream says, also before this returns. Call Submit or Refuse,
  // once, before anything else.
  void Submit(absl::FunctionRef<absl::StatusOr<v1::GenerateRequest>()> make_request,
              std::function<void()> on_readable);
  void Refuse(absl::Status status);
  // If it was refused, says why as `reword` puts it.
  void RewordRefusal(absl::FunctionRef<absl::Status(absl::Status)> reword);

  // What the engine has said since the last time, as messages, in order; empty once end() is there.
  std::vector<v1::GenerateResponse> Read();
  // Why it was refused, or how the answer ended: OK after its last message. Absent while it runs.
  const std::optional<absl::Status>& end() const { return end_; }

  // The client is gone: the request ends with CancelledStatus, also if its answer is complete by
  // now, for its end has not been sent.
  void Abandon();
  // What the engine still does that nobody needs: all of it, if the request has ended for its
  // client, or choices that a stop string ended. Each comes once; CancelInEngine is to be called
  // with it, without a lock.
  struct Cancels {
    bool request = false;
    std::vector<int> choices;

    bool empty() const { return !request && choices.empty(); }
  };
  Cancels TakeCancels();
  void CancelInEngine(const Cancels& cancels) const;

  // Metrics and log. REQUIRES: end() is there; called once.
  void Record();

  // What a call ends with that was cancelled or whose deadline has passed.
  static absl::Status CancelledStatus(const ApiContext& api, absl::Time deadline);

 private:
  absl::Status TrySubmit(absl::FunctionRef<absl::StatusOr<v1::GenerateRequest>()> make_request,
                         std::function<void()> on_readable);

  ApiContext& api_;
  const ArrivedCall& call_;
  const absl::Time start_time_;
  // Set by Submit, then constant.
  const ServedModel* model_ = nullptr;
  std::string request_id_;
  int prompt_tokens_ = 0;
  std::shared_ptr<scheduler::TokenStream> stream_;
  bool submitted_ = false;

  std::optional<Answer> answer_;
  int cached_prompt_tokens_ = 0;
  // When it left the queue, as far as this has heard of it.
  std::optional<absl::Time> admitted_time_;
  std::optional<absl::Time> first_token_time_;
  std::optional<LoggedTexts> logged_texts_;
  bool cancelled_in_engine_ = false;
  std::optional<absl::Status> end_;
};

}  // namespace sluice::api
