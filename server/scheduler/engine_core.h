// EngineCore: the engine but for its thread. Engine wraps one around it; tests call Step by hand,
// with a clock that they turn themselves.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/admission_queue.h"
#include "scheduler/block_manager.h"
#include "scheduler/engine_load.h"
#include "scheduler/engine_options.h"
#include "scheduler/engine_report.h"
#include "scheduler/request.h"
#include "scheduler/request_group.h"
#include "scheduler/sequence.h"
#include "scheduler/step_pacer.h"
#include "scheduler/step_planner.h"
#include "scheduler/token_stream.h"

namespace sluice::scheduler {

class EngineCore {
 public:
  // As in Engine.
  explicit EngineCore(const EngineOptions& options);

  // From any thread; as in Engine.
  absl::Status Submit(Request request, std::shared_ptr<TokenStream> stream);
  absl::Status Cancel(absl::string_view id, const TokenStream* stream = nullptr,
                      std::optional<int> choice = std::nullopt) {
    return queue_.Cancel(id, stream, choice);
  }
  EngineLoad Load() const { return queue_.Load(); }
  absl::Duration RetryDelay() const { return queue_.RetryDelay(); }
  void Drain() { queue_.Drain(); }
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
  void DescribeRunning();
  void LimitPrompts();
  void DescribeWaiting();
  void Apply();
  void PreemptLast(int num_sequences);
  void AdmitFirst(int num_sequences);
  void Run();
  void Accept(absl::Span<const model::SequenceResult> results);
  bool IsStream(const PlannedSequence& planned) const;
  void NoteTime(const StepPacer::Step& step, absl::Duration duration);
  void ForkFinishedPrompts();
  void Publish();
  void Retire();

  void Enqueue(Sequence& sequence);
  void PublishLoad(absl::Span<const absl::string_view> ended_ids = {});

  const EngineLimits limits_;
  // But for max_prompt_tokens, which is another in each step.
  const PlanLimits plan_limits_;
  const base::Clock& clock_;
  model::ModelRunner& runner_;

  AdmissionQueue queue_;
  EngineReport report_;
  BlockManager blocks_;
  StepPacer pacer_;
  // The time of this step: of its beginning, and from the end of Run on of that.
  absl::Time now_;
  // The clock may be set back; ranks are not.
  absl::Time last_arrival_ = absl::InfinitePast();

  std::map<uint64_t, std::unique_ptr<RequestGroup>> groups_;  // that live, by number
  // Their sequences that have not ended, in order of rank; those that were just admitted or forked
  // stand behind the others until the next plan.
  std::vector<Sequence*> waiting_;
  std::vector<Sequence*> running_;

  // This step's; their memory is used again.
  int max_prompt_tokens_ = 0;
  StepPlan plan_;
  std::vector<RunningSequence> running_rows_;
  std::vector<WaitingSequence> waiting_rows_;
  std::vector<model::SequenceStep> batch_;
  std::vector<std::unique_ptr<RequestGroup>> ended_;
};

}  // namespace sluice::scheduler
