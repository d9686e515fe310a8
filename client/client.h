// Client: calls a Sluice server over gRPC; errors are absl::Status, with the server's code and
// message. gRPC itself stays out of this header.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cancellation.h"
#include "client/retry.h"
#include "sluice/v1/control.pb.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::client {

struct CallOptions {
  // Counted from the start of the call; the call ends with DEADLINE_EXCEEDED when it is over.
  absl::Duration timeout = absl::InfiniteDuration();
  Cancellation* cancellation = nullptr;
  // Whether and how to try again; the timeout covers all attempts and the time between them.
  RetryPolicy retry;
};

// Where the server is and how to talk to it. All files are read once.
struct ConnectionOptions {
  // HOST:PORT or unix:/path; for several servers IP:PORT,IP:PORT,... or dns:///NAME:PORT. Of
  // several, each call and each attempt at it goes to the next that is connected and says that it
  // is ready.
  std::string address;
  // PEM files. tls_ca holds what the server's certificate must be signed by: empty is no TLS. The
  // other two are for servers that want certificates of their clients.
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  // With tls_ca: the name that the server's certificate must be for; empty: the host of the
  // address. A list of IP addresses needs one that all have in common.
  std::string tls_server_name;
  // Holds the token that is sent with every call; empty: none is.
  std::string token_file;
};

// Thread-safe. The calls of one client share one connection to each server, which the first of them
// makes; where there is no server, or none of several is ready, calls fail with UNAVAILABLE.
class Client {
 public:
  using EventCallback = std::function<void(const v1::GenerateResponse&)>;
  using DoneCallback = std::function<void(const absl::Status&)>;

  // Without TLS and token. REQUIRES: Create would take the address.
  explicit Client(const std::string& address);
  // INVALID_ARGUMENT, naming the option, if a file cannot be read or does not hold what it should,
  // the address is of none of these forms, or options do not fit together; nothing else is tried
  // before the first call.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const ConnectionOptions& options);
  // REQUIRES: no call runs.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Calls `on_event` on this thread for each event, in order, and returns when the stream ends.
  // Only an attempt that brought no event is followed by another.
  absl::Status Generate(const v1::GenerateRequest& request, const CallOptions& options,
                        absl::FunctionRef<void(const v1::GenerateResponse&)> on_event) const;

  // The same without waiting: the callbacks come one after another on threads of gRPC and must not
  // block; `on_done` is the last, and comes exactly once. For many calls at a time.
  void StartGenerate(const v1::GenerateRequest& request, const CallOptions& options,
                     EventCallback on_event, DoneCallback on_done) const;

  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request,
                                                const CallOptions& options) const;
  absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                    const CallOptions& options) const;
  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo(const CallOptions& options) const;
  absl::StatusOr<v1::GetModelInfoResponse> GetModelInfo(const CallOptions& options) const;
  absl::StatusOr<v1::GetLoadResponse> GetLoad(const CallOptions& options) const;
  absl::StatusOr<v1::GetExpertLoadResponse> GetExpertLoad(const v1::GetExpertLoadRequest& request,
                                                          const CallOptions& options) const;
  absl::Status Abort(const v1::AbortRequest& request, const CallOptions& options) const;

  // Asks grpc.health.v1.Health. OK if `service` (empty: the server as a whole) is SERVING,
  // UNAVAILABLE if it is not, NOT_FOUND if the server does not know it.
  absl::Status CheckHealth(const std::string& service, const CallOptions& options) const;

 private:
  struct Stubs;

  explicit Client(std::unique_ptr<Stubs> stubs);

  std::unique_ptr<Stubs> stubs_;
};

}  // namespace sluice::client
