// ServerConfig: everything that can be set about the server, in one plain struct, and how it is
// loaded from flags and the environment.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice::config {

// In what format the weights are held in memory.
enum class WeightsFormat {
  kAuto,  // bf16 where the processor has bf16 kernels, otherwise f32
  kF32,
  kBf16,
  kInt8,  // a scale for each output column
  kInt4,  // a scale for each 32 weights
};

// In what type the KV cache holds keys and values.
enum class KvCacheDtype {
  kAuto,  // f32 with f32 weights, otherwise bf16
  kBf16,
  kF32,
};

// Which expert metrics are exported.
enum class ExpertMetrics { kPerExpert, kPerLayer, kOff };

// Fields are named after their flags; `--help` says what each means. After loading, every field is
// within its limits.
struct ServerConfig {
  // A checkpoint's folder; empty: the demo model.
  std::string model;
  // The name under which it is served; empty: the folder's (see ServedModelName).
  std::string model_name;
  WeightsFormat weights = WeightsFormat::kAuto;
  // Threads that compute; 0: as many as physical cores that the process may use.
  int threads = 0;
  // Absent: a share of the memory that there is (see AutoKvCacheBytes).
  std::optional<int64_t> kv_cache_bytes = int64_t{1} << 30;
  KvCacheDtype kv_cache_dtype = KvCacheDtype::kAuto;
  bool prefix_cache = true;
  int max_running_requests = 64;
  int max_waiting_requests = 256;
  int64_t max_waiting_tokens = 262144;
  int max_active_requests = 1024;
  absl::Duration priority_ageing = absl::Seconds(10);
  int max_step_tokens = 512;
  // Absent: a step may take as long as it likes.
  std::optional<double> max_step_slowdown = 2.2;
  // Prompt and answer together, in tokens; 0: the model's.
  int64_t max_context = 0;
  int default_max_tokens = 256;
  ExpertMetrics expert_metrics = ExpertMetrics::kPerExpert;

  // Each HOST:PORT, where port 0 picks a free one, or unix:/path.
  std::vector<std::string> listen = {"127.0.0.1:50051"};
  // Of Unix sockets, as chmod takes it.
  int socket_mode = 0660;
  // Empty: no metrics page.
  std::string metrics_listen = "127.0.0.1:9090";
  // Files; all empty: no TLS.
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  // A file; empty: everybody may call.
  std::string auth_tokens;
  int max_message_bytes = 4 << 20;
  int max_metadata_bytes = 16 << 10;
  int max_concurrent_streams = 1024;
  int64_t grpc_memory_bytes = int64_t{1} << 30;
  absl::Duration keepalive_time = absl::Seconds(30);
  absl::Duration keepalive_timeout = absl::Seconds(20);
  // "stderr", "off" or a file.
  std::string access_log = "stderr";
  bool log_prompts = false;
  // As base::InitLog takes it.
  std::string log_level = "info";
  absl::Duration drain_timeout = absl::Seconds(30);

  bool operator==(const ServerConfig&) const = default;
};

struct LoadedConfig {
  ServerConfig config;
  // Not empty: --help or --version was given; print this and exit with code 0.
  std::string text;
  // What is odd but no error, such as a variable that names no flag: for the log.
  std::vector<std::string> warnings;
};

// Reads flags (`--name=value` or `--name value`; given twice, the last counts) and, for those not
// given, variables SLUICE_<NAME>, where an empty variable is an empty value. `environment` is a
// null-terminated array of "NAME=value", as `environ` is.
//
// INVALID_ARGUMENT for an unknown flag, a stray argument or a bad value; the message is one
// sentence that names the flag, and the variable if the value came from there. The server prints it
// and exits with code 1.
absl::StatusOr<LoadedConfig> LoadServerConfig(int argc, const char* const* argv,
                                              const char* const* environment);

// `model_name`, or else the name of the model's folder; "demo" for the demo model.
std::string ServedModelName(const ServerConfig& config);

}  // namespace sluice::config
