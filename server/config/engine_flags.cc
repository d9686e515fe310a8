#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "config/flag_setters.h"
#include "config/flags.h"

namespace sluice::config {
namespace {

using C = ServerConfig;

constexpr int64_t kMaxTokens = int64_t{1} << 24;

absl::StatusOr<std::string> ParseModelName(const std::string& text) {
  constexpr size_t kMaxBytes = 256;
  if (text.size() > kMaxBytes ||
      std::any_of(text.begin(), text.end(), [](char c) { return absl::ascii_iscntrl(c); })) {
    return absl::InvalidArgumentError(
        absl::StrCat("must have at most ", kMaxBytes, " bytes and no control characters"));
  }
  return text;
}

absl::Status SetKvCacheBytes(const std::string& text, ServerConfig& config) {
  if (text == "auto") {
    config.kv_cache_bytes.reset();
    return absl::OkStatus();
  }
  const auto bytes = ParseBytes(text, int64_t{1} << 16, int64_t{1} << 50);
  if (!bytes.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(bytes.status().message(), ", or auto"));
  }
  config.kv_cache_bytes = *bytes;
  return absl::OkStatus();
}

absl::Status SetMaxStepSlowdown(const std::string& text, ServerConfig& config) {
  if (text == "off") {
    config.max_step_slowdown.reset();
    return absl::OkStatus();
  }
  constexpr double kLeast = 1.1;
  constexpr double kMost = 1000;
  double slowdown = 0;
  if (!absl::SimpleAtod(text, &slowdown) || !(slowdown >= kLeast && slowdown <= kMost)) {
    return absl::InvalidArgumentError(
        absl::StrCat("must be a number from ", kLeast, " to ", kMost, ", or off"));
  }
  config.max_step_slowdown = slowdown;
  return absl::OkStatus();
}

constexpr std::array<Flag, 17> kFlags = {{
    {{"model", "DIR", "", "Folder of the checkpoint to serve (default: the demo model)"},
     SetText<&C::model>},
    {{"model_name", "NAME", "", "Name under which it is served (default: the folder's name)"},
     SetParsed<&C::model_name, ParseModelName>},
    {{"weights", "auto|f32|bf16|int8|int4", "auto",
      "Format of the weights in memory; auto is bf16 where the processor has kernels for it"},
     SetParsed<&C::weights, ParseWeightsFormat>},
    {{"threads", "N", "0",
      "Threads that compute; 0 is one for each physical core that the process may use"},
     SetInt<&C::threads, 0, 1024>},
    {{"kv_cache_bytes", "SIZE|auto", "1GiB",
      "Memory of the KV cache, in bytes or with KiB, MiB, GiB; auto is half of what the weights "
      "leave of the machine's or the container's memory, at most what can be used"},
     SetKvCacheBytes},
    {{"kv_cache_dtype", "auto|bf16|f32", "auto",
      "Type of the keys and values in the KV cache; auto is f32 with f32 weights, otherwise bf16"},
     SetParsed<&C::kv_cache_dtype, ParseKvCacheDtype>},
    {{"prefix_cache", "true|false", "true",
      "Whether prompts that begin like earlier ones take what was computed for those"},
     SetBool<&C::prefix_cache>},
    {{"max_running_requests", "N", "64",
      "Sequences (choices of requests) that are computed at once"},
     SetInt<&C::max_running_requests, 1, 4096>},
    {{"max_waiting_requests", "N", "256", "Requests that wait to be computed; more are refused"},
     SetInt<&C::max_waiting_requests, 1, 1000000>},
    {{"max_waiting_tokens", "N", "262144",
      "Tokens of the prompts that wait to be computed; more are refused"},
     SetInt<&C::max_waiting_tokens, 1, int64_t{1} << 40>},
    {{"max_active_requests", "N", "1024",
      "Requests whose stream is open, unread answers among them; more are refused"},
     SetInt<&C::max_active_requests, 1, 1000000>},
    {{"priority_ageing", "SECONDS", "10",
      "A waiting request rises by one priority in each such time, so that nobody waits for ever"},
     SetSeconds<&C::priority_ageing, 1>},
    {{"max_step_tokens", "N", "512",
      "Tokens of one step of the model; longer prompts take several steps"},
     SetInt<&C::max_step_tokens, 1, 65536>},
    {{"max_step_slowdown", "X|off", "2.2",
      "A step that generates may take X times as long as without prompts: more of these waits for "
      "later steps"},
     SetMaxStepSlowdown},
    {{"max_context", "N", "0", "Prompt and answer together, in tokens; 0 is the model's own limit"},
     SetInt<&C::max_context, 0, kMaxTokens>},
    {{"default_max_tokens", "N", "256", "Length of an answer that sets no max_tokens, in tokens"},
     SetInt<&C::default_max_tokens, 1, kMaxTokens>},
    {{"expert_metrics", "per_expert|per_layer|off", "per_expert",
      "Which expert metrics are exported; per_layer if layers x experts series are too many"},
     SetParsed<&C::expert_metrics, ParseExpertMetrics>},
}};

}  // namespace

absl::Span<const Flag> EngineFlags() { return kFlags; }

}  // namespace sluice::config
