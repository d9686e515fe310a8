// ModelSlot: where the api finds the model, which comes after the port is open and goes before it
// is closed.
#pragma once

#include <atomic>

#include "absl/status/statusor.h"
#include "api/request_parser.h"
#include "metrics/expert_load.h"
#include "scheduler/engine.h"
#include "sluice/v1/control.pb.h"

namespace sluice::api {

// A loaded model and the engine that runs it. Immutable; pointers are borrowed.
struct ServedModel {
  ModelFacts facts;
  v1::GetModelInfoResponse info;
  scheduler::Engine* engine = nullptr;
  scheduler::EngineLimits limits;
  // Whether requests may take what was computed for others; if not, all bypass the cache.
  bool prefix_cache = true;
  const metrics::ExpertLoad* expert_load = nullptr;
};

// All methods may be called from any thread.
class ModelSlot {
 public:
  enum class Phase { kLoading, kReady, kDraining };

  // The model is loaded. `model` must live until the last call has ended. Call once.
  void Publish(const ServedModel* model);
  // No new requests from now on.
  void Drain();

  Phase phase() const;

  // For calls that make work: UNAVAILABLE unless kReady.
  absl::StatusOr<const ServedModel*> ForWork() const;
  // For calls that only look: UNAVAILABLE until the model is loaded.
  absl::StatusOr<const ServedModel*> ForReading() const;

 private:
  std::atomic<const ServedModel*> model_{nullptr};
  std::atomic<bool> draining_{false};
};

}  // namespace sluice::api
