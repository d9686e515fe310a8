// EngineCore: the engine but for its thread. Engine wraps one around it; tests call Step by hand,
// with a clock that they turn themselves.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/admission_queue.h"
#include "scheduler/block_manager.h"
#include "scheduler/engine_load.h"
#include "scheduler/engine_options.h"
#include "scheduler/request.h"
#include "scheduler/sequence.h"
#include "scheduler/step_planner.h"
#include "scheduler/token_stream.h"

namespace sluice::scheduler {

class EngineCore {
 public:
  // As in Engine.
  explicit EngineCore(const EngineOptions& options);

  // From any thread; as in Engine.
  absl::Status Submit(Request request, std::shared_ptr<TokenStream> stream);
  absl::Status Cancel(absl::string_view id, const TokenStream* stream = nullptr) {
    return queue_.Cancel(id, stream);
  }
  EngineLoad Load() const { return queue_.Load(); }
  absl::Duration RetryDelay() const { return queue_.RetryDelay(); }
  // From now on Submit says UNAVAILABLE and AwaitWork false.
  void Close() { queue_.Close(); }

  // The rest is for one thread, the engine's.

  // Sleeps while there is no work. Returns false when it is time to stop.
  bool AwaitWork();

  // Ends what was cancelled or is past its deadline; then runs one step, if there is anything to
  // run.
  void Step();

  // Ends every request, in the inbox, waiting or running, with UNAVAILABLE and this message.
  void EndAll(absl::string_view message);

 private:
  void DrainInbox();
  void TakeIn(Inbox inbox);
  void CheckDeadlines();
  void MakePlan();
  void Apply();
  void Run();
  void Publish();
  void Retire();

  bool HasSequences() const { return !running_.empty() || !waiting_.empty(); }
  Sequence* Find(uint64_t number);
  void PublishLoad(absl::Span<const absl::string_view> ended_ids = {});
  void ObserveToken(const Sequence::Times& before, const Sequence& sequence);

  const EngineLimits limits_;
  const PlanLimits plan_limits_;
  const base::Clock& clock_;
  model::ModelRunner& runner_;
  metrics::EngineMetrics& metrics_;

  AdmissionQueue queue_;
  BlockManager blocks_;
  EngineLoad load_;
  // The time of this step: of its beginning, and from the end of Run on of that.
  absl::Time now_;

  // Both in order of arrival.
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;

  // This step's; their memory is used again.
  StepPlan plan_;
  std::vector<int64_t> running_pending_;
  std::vector<WaitingSequence> waiting_wanted_;
  std::vector<model::SequenceStep> batch_;
  std::vector<std::unique_ptr<Sequence>> ended_;
};

}  // namespace sluice::scheduler
