#include "api/arrived_call.h"

#include <utility>

#include "api/reactor_support.h"
#include "api/traceparent.h"

namespace sluice::api {

std::vector<absl::string_view> MetadataOf(const grpc::ServerContextBase& context, const char* key) {
  std::vector<absl::string_view> values;
  const auto [begin, end] = context.client_metadata().equal_range(key);
  for (auto it = begin; it != end; ++it) values.emplace_back(it->second.data(), it->second.size());
  return values;
}

ArrivedCall::ArrivedCall(const ApiContext& api, metrics::Method method,
                         const grpc::ServerContextBase& context)
    : method_(method),
      start_time_(api.clock.Now()),
      deadline_(DeadlineOf(context)),
      peer_(context.peer()) {
  // Said twice, it says nothing.
  if (const auto parents = MetadataOf(context, "traceparent"); parents.size() == 1) {
    trace_id_ = TraceIdOf(parents[0]).value_or("");
  }
  if (api.authenticator == nullptr) return;
  absl::StatusOr<Caller> caller = api.authenticator->Admit(MetadataOf(context, "authorization"));
  admission_ = caller.status();
  if (!caller.ok()) return;
  caller_.emplace(*std::move(caller));
  token_name_ = caller_->token_name();
}

}  // namespace sluice::api
