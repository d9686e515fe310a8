#include "api/control_service.h"

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "api/status_mapping.h"
#include "api/unary_call.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

google::protobuf::Timestamp ToProto(absl::Time time) {
  google::protobuf::Timestamp proto;
  const int64_t nanoseconds = absl::ToUnixNanos(time);
  proto.set_seconds(nanoseconds / 1'000'000'000);
  proto.set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
  return proto;
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  const int64_t nanoseconds = absl::ToInt64Nanoseconds(duration);
  proto.set_seconds(nanoseconds / 1'000'000'000);
  proto.set_nanos(static_cast<int32_t>(nanoseconds % 1'000'000'000));
  return proto;
}

v1::GetServerInfoResponse ServerInfo(const ApiContext& api) {
  v1::GetServerInfoResponse response;
  response.set_version(api.facts.version);
  *response.mutable_start_time() = ToProto(api.facts.start_time);
  response.set_ready(api.slot.phase() == ModelSlot::Phase::kReady);
  response.set_num_threads(api.facts.num_threads);
  response.set_cpu(api.facts.cpu);
  response.set_isa(api.facts.isa);
  response.mutable_kernels()->Assign(api.facts.kernels.begin(), api.facts.kernels.end());
  return response;
}

v1::GetLoadResponse Load(const ServedModel& model) {
  const scheduler::EngineLoad load = model.engine->Load();
  v1::GetLoadResponse response;
  response.set_waiting_requests(load.waiting_requests);
  response.set_running_requests(load.running_requests);
  response.set_max_waiting_requests(model.limits.max_waiting_requests);
  response.set_max_running_requests(model.limits.max_running_requests);
  response.set_total_kv_blocks(load.total_kv_blocks);
  // What a prefix is cached in is given away when it is needed.
  response.set_free_kv_blocks(load.total_kv_blocks - load.used_kv_blocks());
  if (load.total_kv_blocks > 0) {
    response.set_kv_cache_usage(static_cast<double>(load.used_kv_blocks()) / load.total_kv_blocks);
  }
  response.set_steps(load.steps);
  response.set_prompt_tokens(load.prompt_tokens);
  response.set_generated_tokens(load.generated_tokens);
  return response;
}

void Fill(const metrics::LayerLoad& load, v1::LayerExpertLoad& wire) {
  wire.set_layer(load.layer);
  wire.mutable_tokens()->Assign(load.tokens.begin(), load.tokens.end());
  wire.mutable_weight()->Assign(load.weight.begin(), load.weight.end());
  *wire.mutable_time() = ToProto(absl::Seconds(load.seconds));
  wire.set_imbalance(load.imbalance);
  wire.set_active_experts(load.active_experts);
  wire.set_routing_entropy(load.routing_entropy);
  wire.set_load_balance_loss(load.load_balance_loss);
  wire.set_window_steps(load.window_steps);
}

absl::StatusOr<v1::GetExpertLoadResponse> ExpertLoad(const v1::GetExpertLoadRequest& request,
                                                     const ServedModel& model, absl::Time now) {
  const metrics::ExpertLoad::Snapshot snapshot = model.expert_load->Read();
  for (int i = 0; i < request.layers_size(); ++i) {
    const auto is_wanted = [&](const auto& load) { return load.layer == request.layers(i); };
    if (absl::c_none_of(snapshot.layers, is_wanted)) {
      return FieldError(
          absl::StrCat("layers[", i, "]"),
          absl::StrCat("is ", request.layers(i), "; the model has no such layer with experts"));
    }
  }
  v1::GetExpertLoadResponse response;
  *response.mutable_time() = ToProto(now);
  response.set_steps(snapshot.steps);
  for (const metrics::LayerLoad& load : snapshot.layers) {
    if (request.layers().empty() || absl::c_linear_search(request.layers(), load.layer)) {
      Fill(load, *response.add_layers());
    }
  }
  return response;
}

}  // namespace

grpc::ServerUnaryReactor* ControlService::GetServerInfo(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  const auto run =
      [&api = api_](const v1::GetServerInfoRequest&) -> absl::StatusOr<v1::GetServerInfoResponse> {
    return ServerInfo(api);
  };
  return RunUnary(api_, metrics::Method::kGetServerInfo, *context, *request, *response,
                  Handler<v1::GetServerInfoRequest>(run));
}

grpc::ServerUnaryReactor* ControlService::GetModelInfo(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  const auto run =
      [&api = api_](const v1::GetModelInfoRequest&) -> absl::StatusOr<v1::GetModelInfoResponse> {
    ASSIGN_OR_RETURN(const ServedModel* model, api.slot.ForReading());
    return model->info;
  };
  return RunUnary(api_, metrics::Method::kGetModelInfo, *context, *request, *response,
                  Handler<v1::GetModelInfoRequest>(run));
}

grpc::ServerUnaryReactor* ControlService::GetLoad(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request,
                                                  grpc::ByteBuffer* response) {
  const auto run = [&api = api_](const v1::GetLoadRequest&) -> absl::StatusOr<v1::GetLoadResponse> {
    ASSIGN_OR_RETURN(const ServedModel* model, api.slot.ForReading());
    return Load(*model);
  };
  return RunUnary(api_, metrics::Method::kGetLoad, *context, *request, *response,
                  Handler<v1::GetLoadRequest>(run));
}

grpc::ServerUnaryReactor* ControlService::GetExpertLoad(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  const auto run =
      [&api = api_](
          const v1::GetExpertLoadRequest& wire) -> absl::StatusOr<v1::GetExpertLoadResponse> {
    ASSIGN_OR_RETURN(const ServedModel* model, api.slot.ForReading());
    return ExpertLoad(wire, *model, api.clock.Now());
  };
  return RunUnary(api_, metrics::Method::kGetExpertLoad, *context, *request, *response,
                  Handler<v1::GetExpertLoadRequest>(run));
}

grpc::ServerUnaryReactor* ControlService::Abort(grpc::CallbackServerContext* context,
                                                const grpc::ByteBuffer* request,
                                                grpc::ByteBuffer* response) {
  const auto run = [&api =
                        api_](const v1::AbortRequest& wire) -> absl::StatusOr<v1::AbortResponse> {
    if (wire.request_id().empty()) return FieldError("request_id", "is empty");
    ASSIGN_OR_RETURN(const ServedModel* model, api.slot.ForReading());
    if (!model->engine->Cancel(wire.request_id()).ok()) {
      return absl::NotFoundError(
          absl::StrCat("request_id: no request '", wire.request_id(), "' waits or runs"));
    }
    return v1::AbortResponse();
  };
  return RunUnary(api_, metrics::Method::kAbort, *context, *request, *response,
                  Handler<v1::AbortRequest>(run));
}

}  // namespace sluice::api
