#include "api/arrived_call.h"

#include <utility>

#include "api/reactor_support.h"
#include "api/traceparent.h"
#include "base/status_macros.h"

namespace sluice::api {

std::vector<absl::string_view> MetadataOf(const grpc::ServerContextBase& context, const char* key) {
  std::vector<absl::string_view> values;
  const auto [begin, end] = context.client_metadata().equal_range(key);
  for (auto it = begin; it != end; ++it) values.emplace_back(it->second.data(), it->second.size());
  return values;
}

ArrivedCall::ArrivedCall(const ApiContext& api, metrics::Method method,
                         const grpc::ServerContextBase& context, Places places)
    : authenticator_(api.authenticator),
      authorization_(MetadataOf(context, "authorization")),
      method_(method),
      start_time_(api.clock.Now()),
      deadline_(DeadlineOf(context)),
      peer_(context.peer()) {
  // Said twice, it says nothing.
  if (const auto parents = MetadataOf(context, "traceparent"); parents.size() == 1) {
    trace_id_ = TraceIdOf(parents[0]).value_or("");
  }
  if (authenticator_ == nullptr) return;
  // Of him who is refused because of his limits, too, the log says who he is.
  absl::StatusOr<std::string> name = authenticator_->Check(authorization_);
  admission_ = name.status();
  if (!name.ok()) return;
  token_name_ = *std::move(name);
  if (places == Places::kOfRequests) return;
  absl::StatusOr<Caller> caller = authenticator_->Admit(authorization_);
  admission_ = caller.status();
  if (caller.ok()) caller_.emplace(*std::move(caller));
}

absl::StatusOr<std::optional<Caller>> ArrivedCall::AdmitRequest() const {
  if (authenticator_ == nullptr) return std::nullopt;
  ASSIGN_OR_RETURN(Caller caller, authenticator_->Admit(authorization_));
  return std::optional<Caller>(std::move(caller));
}

}  // namespace sluice::api
