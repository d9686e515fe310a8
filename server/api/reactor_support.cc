#include "api/reactor_support.h"

#include <grpcpp/alarm.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "api/status_mapping.h"

namespace sluice::api {

absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

void RunOnGrpcThread(std::function<void()> function) {
  // An alarm that is overdue is the way onto a thread of gRPC's; one due now would wait for the
  // next millisecond. It is deleted by its own call, which is allowed: what runs is held by gRPC.
  auto* alarm = new grpc::Alarm;
  alarm->Set(std::chrono::system_clock::time_point(),
             [function = std::move(function), alarm](bool) {
               delete alarm;
               function();
             });
}

void AddRetryMetadata(const absl::Status& status, grpc::CallbackServerContext& context) {
  const auto delay = RetryDelayOf(status);
  if (!delay) return;
  // For gRPC clients, which read the first, and for Envoy, which reads the second.
  context.AddTrailingMetadata("grpc-retry-pushback-ms",
                              absl::StrCat(absl::ToInt64Milliseconds(*delay)));
  context.AddTrailingMetadata("retry-after",
                              absl::StrCat(std::max<int64_t>(
                                  1, absl::ToInt64Seconds(absl::Ceil(*delay, absl::Seconds(1))))));
}

}  // namespace sluice::api
