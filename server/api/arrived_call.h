// ArrivedCall: what is known of a call when it arrives, whoever makes it and whatever it asks for.
#pragma once

#include <grpcpp/server_context.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "api/api_context.h"
#include "api/authenticator.h"
#include "metrics/request_metrics.h"

namespace sluice::api {

// The values of `key`, which is lower case, as the caller sent them. They live as long as the call.
std::vector<absl::string_view> MetadataOf(const grpc::ServerContextBase& context, const char* key);

// Not thread-safe.
class ArrivedCall {
 public:
  // What takes a place of a token's: the call, or each request that it carries.
  enum class Places { kOfCall, kOfRequests };

  // Reads the metadata and, if callers need tokens, asks for a place for this one, or only whether
  // its token is known.
  ArrivedCall(const ApiContext& api, metrics::Method method, const grpc::ServerContextBase& context,
              Places places = Places::kOfCall);

  // Asks for a place for one of the call's requests, which the result has while it lives; it is
  // empty where callers need no token. Errors as admission(): the token may have been taken back
  // meanwhile.
  absl::StatusOr<std::optional<Caller>> AdmitRequest() const;

  // OK, or why the call is refused: UNAUTHENTICATED, or RESOURCE_EXHAUSTED with when to come back.
  const absl::Status& admission() const { return admission_; }

  // Gives the token's place to others: before the caller hears that the call has ended, so that his
  // next one finds it free.
  void Leave() { caller_.reset(); }

  metrics::Method method() const { return method_; }
  absl::Time start_time() const { return start_time_; }
  // InfiniteFuture if it has none.
  absl::Time deadline() const { return deadline_; }
  // As gRPC writes it, such as "ipv4:127.0.0.1:50000".
  const std::string& peer() const { return peer_; }
  // Empty: the call needed no token, or had none.
  const std::string& token_name() const { return token_name_; }
  // Empty: the caller has named no trace.
  const std::string& trace_id() const { return trace_id_; }

 private:
  Authenticator* const authenticator_;
  // As it was sent; lives as long as the call.
  const std::vector<absl::string_view> authorization_;
  const metrics::Method method_;
  const absl::Time start_time_;
  const absl::Time deadline_;
  const std::string peer_;
  std::string trace_id_;
  std::string token_name_;
  absl::Status admission_;
  std::optional<Caller> caller_;
};

}  // namespace sluice::api
