// Server: the composition root. It opens the ports, loads the model behind them, serves, and drains
// when it is told to stop.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/access_log.h"
#include "api/authenticator.h"
#include "api/file_watcher.h"
#include "api/grpc_server.h"
#include "api/tls_credentials.h"
#include "base/mutex.h"
#include "config/server_config.h"
#include "kernels/packed_matrix.h"
#include "metrics/server_metrics.h"
#include "server/loaded_model.h"
#include "web/endpoint.h"

namespace sluice::server {

// Create and Run belong to one thread; Stop may be called from any.
class Server {
 public:
  // Reads the files of TLS and tokens, chooses the kernels and opens all ports: from then on health
  // and metrics answer, and the log has a line "listening grpc=HOST:PORT metrics=HOST:PORT" (or
  // "metrics=off"), where several addresses for gRPC have commas between them.
  static absl::StatusOr<std::unique_ptr<Server>> Create(const config::ServerConfig& config);
  ~Server();

  // Loads the model, serves (then the log has a line "ready model=NAME load_seconds=S") until Stop,
  // and drains: new requests are refused; those that run may go on for --drain_timeout and then end
  // with UNAVAILABLE. An error, one sentence, if the model cannot be loaded.
  absl::Status Run();

  // Makes Run return; false, and nothing happens, while the model is loading: then there is nothing
  // to drain, and loading cannot be broken off.
  bool Stop();

  // Has the files of TLS and tokens read again, as happens anyhow soon after they change, and the
  // access log opened anew. Any thread may call it: it does not wait for the file system.
  void Reload();

  // Removes what would outlive a process that ends without Run's return. Any thread may call it.
  void RemoveSockets() { grpc_->RemoveSockets(); }

  const std::string& grpc_address() const { return grpc_->address(); }

 private:
  Server(const config::ServerConfig& config, kernels::WeightFormat weights, api::ServerFacts facts);

  absl::Status OpenFiles();
  absl::Status Listen();
  void LogTransport() const;
  void Drain();

  const config::ServerConfig config_;
  const kernels::WeightFormat weights_;
  const api::ServerFacts facts_;
  metrics::ServerMetrics metrics_;
  api::ModelSlot slot_;
  api::ActiveCalls active_calls_;
  std::unique_ptr<LoadedModel> model_;
  api::TextThread text_thread_;
  api::ApiContext api_;
  // Null if the configuration wants none. The watcher's thread shares two of them.
  std::shared_ptr<api::TlsCredentials> tls_;
  std::shared_ptr<api::Authenticator> authenticator_;
  std::unique_ptr<api::AccessLog> access_log_;
  std::unique_ptr<web::Endpoint> web_;
  std::unique_ptr<api::GrpcServer> grpc_;
  std::unique_ptr<api::FileWatcher> watcher_;

  base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::server
