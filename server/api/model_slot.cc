#include "api/model_slot.h"

#include "absl/status/status.h"

namespace sluice::api {

void ModelSlot::Publish(const ServedModel* model) { model_ = model; }

void ModelSlot::Drain() { draining_ = true; }

ModelSlot::Phase ModelSlot::phase() const {
  if (draining_) return Phase::kDraining;
  return model_ == nullptr ? Phase::kLoading : Phase::kReady;
}

absl::StatusOr<const ServedModel*> ModelSlot::ForWork() const {
  if (draining_) return absl::UnavailableError("the server is shutting down");
  return ForReading();
}

absl::StatusOr<const ServedModel*> ModelSlot::ForReading() const {
  const ServedModel* model = model_;
  if (model == nullptr) return absl::UnavailableError("the model is loading");
  return model;
}

}  // namespace sluice::api
