#include "server/loaded_model.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/integers.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "config/machine.h"
#include "model/checkpoint.h"
#include "model/kv_cache.h"
#include "model/memory_estimate.h"

namespace sluice::server {
namespace {

std::vector<int> SparseLayers(const model::ModelConfig& config) {
  std::vector<int> layers;
  for (int i = 0; i < config.num_layers(); ++i) {
    if (config.layers[i].sparse) layers.push_back(i);
  }
  return layers;
}

metrics::ExpertMetrics ToMetrics(config::ExpertMetrics mode) {
  switch (mode) {
    case config::ExpertMetrics::kPerExpert:
      return metrics::ExpertMetrics::kPerExpert;
    case config::ExpertMetrics::kPerLayer:
      return metrics::ExpertMetrics::kPerLayer;
    case config::ExpertMetrics::kOff:
      break;
  }
  return metrics::ExpertMetrics::kOff;
}

// Absent: the model's default for its weights.
std::optional<kernels::KvFormat> KvFormatOf(config::KvCacheDtype dtype) {
  switch (dtype) {
    case config::KvCacheDtype::kBf16:
      return kernels::KvFormat::kBf16;
    case config::KvCacheDtype::kF32:
      return kernels::KvFormat::kF32;
    case config::KvCacheDtype::kAuto:
      break;
  }
  return std::nullopt;
}

int64_t Total(const model::WeightsSize& size) {
  int64_t total = 0;
  for (const auto& [kind, bytes] : size.bytes) total += bytes;
  return total;
}

// The length of prompt and answer together that `config` and the model allow.
int64_t MaxContext(const config::ServerConfig& config, const model::ModelConfig& model) {
  return config.max_context > 0 ? std::min<int64_t>(model.max_context, config.max_context)
                                : model.max_context;
}

// For --kv_cache_bytes=auto; says in the log how it came to be.
int64_t ChooseKvCacheBytes(const config::ServerConfig& config, const model::ModelConfig& model,
                           kernels::KvFormat format, const config::MemoryNeed& need,
                           int64_t available) {
  const int64_t most_blocks =
      config.max_running_requests * base::CeilDiv(MaxContext(config, model), model::kKvBlockTokens);
  const int64_t most_bytes = most_blocks * model::KvCache::Shape::Of(model, format).block_bytes();
  const int64_t bytes = config::AutoKvCacheBytes(need, available, most_bytes);
  base::Log().info(
      "kv_cache_bytes=auto bytes={}: the lesser of {}, which --max_running_requests and the "
      "context "
      "can use, and half of what weights={} and scratch={} leave of available={}",
      bytes, most_bytes, need.weights, need.scratch, available);
  return bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadedModel::Load(const Options& options) {
  const absl::Time start = absl::Now();
  std::unique_ptr<LoadedModel> loaded(new LoadedModel);
  RETURN_IF_ERROR(loaded->LoadFiles(options));
  loaded->StartEngine(options);
  loaded->FillInfo(options);
  options.metrics.SetModel({.name = loaded->served_.facts.name,
                            .family = loaded->runner_->config().family,
                            .weights = kernels::NameOf(options.weights),
                            .load_seconds = absl::ToDoubleSeconds(absl::Now() - start),
                            .weights_bytes = loaded->runner_->load_info().weights.bytes});
  loaded->LogStart(options);
  return loaded;
}

absl::Status LoadedModel::LoadFiles(const Options& options) {
  ASSIGN_OR_RETURN(const auto checkpoint, model::Checkpoint::Open(options.folder));
  ASSIGN_OR_RETURN(tokenizer_, tokenizer::Tokenizer::Load(options.folder));
  api::ModelFacts& facts = served_.facts;
  auto chat_template = tokenizer::ChatTemplate::Load(options.folder);
  if (chat_template.ok()) {
    chat_template_ = *std::move(chat_template);
  } else {
    // Text and token prompts work without one.
    facts.chat_unavailable_reason = std::string(chat_template.status().message());
    base::Log().warn("chat prompts are refused: {}", facts.chat_unavailable_reason);
  }
  facts.defaults = checkpoint->generation_defaults();
  // What the model cannot generate cannot end an answer.
  auto& eos = facts.defaults.eos_token_ids;
  eos.erase(std::remove_if(eos.begin(), eos.end(),
                           [&](TokenId id) { return id >= checkpoint->config().vocab_size; }),
            eos.end());
  model::CpuModelRunner::Options runner_options = {
      .weights = options.weights,
      .num_threads = options.num_threads,
      .kv_cache_format = KvFormatOf(options.config.kv_cache_dtype),
      .max_step_tokens = options.config.max_step_tokens,
      .max_step_sequences = options.config.max_running_requests,
      .pin = true};
  const int64_t available = config::AvailableMemoryBytes();
  const model::MemoryEstimate estimate = model::EstimateMemory(*checkpoint, runner_options);
  config::MemoryNeed need = {.weights = estimate.weights, .scratch = estimate.scratch};
  need.kv_cache =
      options.config.kv_cache_bytes.has_value()
          ? *options.config.kv_cache_bytes
          : ChooseKvCacheBytes(
                options.config, checkpoint->config(),
                runner_options.kv_cache_format.value_or(model::DefaultKvFormat(options.weights)),
                need, available);
  RETURN_IF_ERROR(config::CheckMemory(need, available));
  runner_options.kv_cache_bytes = need.kv_cache;
  ASSIGN_OR_RETURN(runner_, model::CpuModelRunner::Create(*checkpoint, runner_options));
  return absl::OkStatus();
}

void LoadedModel::StartEngine(const Options& options) {
  const config::ServerConfig& config = options.config;
  limits_.max_waiting_requests = config.max_waiting_requests;
  limits_.max_waiting_tokens = config.max_waiting_tokens;
  limits_.priority_ageing = config.priority_ageing;
  limits_.max_running_requests = config.max_running_requests;
  limits_.max_step_tokens = config.max_step_tokens;
  limits_.max_step_slowdown = config.max_step_slowdown;
  if (limits_.max_running_requests > limits_.max_step_tokens) {
    base::Log().warn("--max_step_tokens={} cuts max_running_requests from {}: each has a token",
                     config.max_step_tokens, config.max_running_requests);
    limits_.max_running_requests = limits_.max_step_tokens;
  }
  limits_.max_context = runner_->config().max_context;
  if (config.max_context > 0) {
    if (config.max_context > limits_.max_context) {
      base::Log().warn("--max_context={} is more than the model's {}, which counts",
                       config.max_context, limits_.max_context);
    }
    limits_.max_context = std::min(limits_.max_context, config.max_context);
  }
  const int64_t kv_tokens = int64_t{runner_->num_kv_blocks()} * model::kKvBlockTokens;
  if (kv_tokens < limits_.max_context) {
    base::Log().warn("the KV cache holds {} tokens, which cuts the context from {}", kv_tokens,
                     limits_.max_context);
    limits_.max_context = kv_tokens;
  }
  const model::RouterConfig& router = runner_->config().router;
  expert_load_ = &options.metrics.AddExpertLoad(SparseLayers(runner_->config()), router.num_experts,
                                                router.top_k, ToMetrics(config.expert_metrics));
  engine_metrics_ = std::make_unique<metrics::EngineMetrics>(options.metrics.Engine(*expert_load_));
  scheduler::EngineOptions engine_options;
  engine_options.limits = limits_;
  engine_options.runner = runner_.get();
  engine_options.metrics = engine_metrics_.get();
  engine_ = std::make_unique<scheduler::Engine>(engine_options);
  engine_->Start();
}

void LoadedModel::FillInfo(const Options& options) {
  const model::ModelConfig& config = runner_->config();
  const model::CpuModelRunner::LoadInfo& load = runner_->load_info();
  api::ModelFacts& facts = served_.facts;
  facts.name = config::ServedModelName(options.config);
  facts.vocab_size = config.vocab_size;
  facts.max_context = limits_.max_context;
  facts.default_max_tokens = options.config.default_max_tokens;
  facts.tokenizer = tokenizer_.get();
  facts.chat_template = chat_template_.get();

  v1::GetModelInfoResponse& info = served_.info;
  info.set_name(facts.name);
  info.set_family(config.family);
  info.set_weights_format(kernels::NameOf(options.weights));
  info.set_weights_bytes(Total(load.weights));
  info.set_num_parameters(load.weights.parameters);
  info.set_num_active_parameters(load.weights.active_parameters);
  info.set_max_context_tokens(static_cast<int32_t>(limits_.max_context));
  info.set_vocab_size(config.vocab_size);
  info.set_num_layers(config.num_layers());
  info.set_num_experts(config.router.num_experts);
  info.set_num_experts_per_token(config.router.top_k);
  const std::vector<int> sparse_layers = SparseLayers(config);
  info.mutable_moe_layers()->Assign(sparse_layers.begin(), sparse_layers.end());
  info.mutable_eos_token_ids()->Assign(facts.defaults.eos_token_ids.begin(),
                                       facts.defaults.eos_token_ids.end());
  info.set_chat(chat_template_ != nullptr);
  info.set_chat_unavailable_reason(facts.chat_unavailable_reason);

  served_.engine = engine_.get();
  served_.limits = limits_;
  served_.prefix_cache = options.config.prefix_cache;
  served_.expert_load = expert_load_;
}

void LoadedModel::LogStart(const Options& options) const {
  const model::ModelConfig& config = runner_->config();
  const model::CpuModelRunner::LoadInfo& load = runner_->load_info();
  spdlog::logger& log = base::Log();
  log.info("model family={} layers={} experts={} experts_per_token={} parameters={} active={}",
           config.family, config.num_layers(), config.router.num_experts, config.router.top_k,
           load.weights.parameters, load.weights.active_parameters);
  std::string kinds;
  for (const auto& [kind, bytes] : load.weights.bytes)
    absl::StrAppend(&kinds, " ", kind, "=", bytes);
  log.info("weights format={} bytes={}{}", kernels::NameOf(options.weights), Total(load.weights),
           kinds);
  log.info("kv_cache format={} bytes={} blocks={} tokens={}",
           kernels::KvFormatName(load.kv_cache_format), load.num_kv_blocks * load.kv_block_bytes,
           load.num_kv_blocks, int64_t{load.num_kv_blocks} * model::kKvBlockTokens);
  log.info(
      "limits max_context={} max_running_requests={} max_waiting_requests={} "
      "max_waiting_tokens={} max_active_requests={} max_step_tokens={} max_step_slowdown={} "
      "default_max_tokens={} prefix_cache={} priority_ageing={} drain_timeout={}",
      limits_.max_context, limits_.max_running_requests, limits_.max_waiting_requests,
      limits_.max_waiting_tokens, options.config.max_active_requests, limits_.max_step_tokens,
      limits_.max_step_slowdown.has_value() ? absl::StrCat(*limits_.max_step_slowdown) : "off",
      options.config.default_max_tokens, options.config.prefix_cache,
      absl::FormatDuration(limits_.priority_ageing),
      absl::FormatDuration(options.config.drain_timeout));
}

}  // namespace sluice::server
