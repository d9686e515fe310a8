// ApiContext: what every call of the api works with.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "api/active_calls.h"
#include "api/model_slot.h"
#include "api/text_thread.h"
#include "base/clock.h"
#include "metrics/request_metrics.h"

namespace sluice::api {

class AccessLog;
class Authenticator;

// What GetServerInfo says, apart from readiness.
struct ServerFacts {
  std::string version;
  absl::Time start_time;
  int num_threads = 0;
  std::string cpu;
  std::string isa;
  std::vector<std::string> kernels;
};

// Borrowed; outlives the gRPC server.
struct ApiContext {
  const ServerFacts& facts;
  const base::Clock& clock;
  const metrics::RequestMetrics& metrics;
  ModelSlot& slot;
  ActiveCalls& active_calls;
  TextThread& text_thread;
  // Null: everybody may call.
  Authenticator* authenticator = nullptr;
  // Null: calls are not logged.
  AccessLog* access_log = nullptr;
};

}  // namespace sluice::api
