// RandomClients: an engine on a fake model, clients that do anything at all, and a checker of what
// must hold whatever they do. The property test drives it with random numbers, the fuzz target with
// its input.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/engine_core.h"
#include "scheduler/rank.h"
#include "test_engine.h"

namespace sluice::scheduler {

// What it finds wrong are failures of GoogleTest.
class RandomClients {
 public:
  struct Setup {
    int max_waiting_requests = 16;
    int64_t max_waiting_tokens = 1000;
    int max_running_requests = 16;
    int max_step_tokens = 64;
    int num_kv_blocks = 100;  // at least 6, for the longest request
    // With one, steps take random times.
    std::optional<double> max_step_slowdown;
    TestMetrics* metrics = nullptr;  // as TestSetup's
  };

  // `below(n)` chooses one of 0 ... n - 1; n is at most 256.
  RandomClients(const Setup& setup, std::function<int(int)> below);

  // One operation: a request, a cancellation, time that passes, or, mostly, a step.
  void Operate();

  // Runs until all requests have ended.
  void Finish();

  int num_finished() const { return num_finished_; }
  int num_failed() const { return num_failed_; }
  int num_refused() const { return num_refused_; }
  EngineLoad load() const { return engine_.core.Load(); }

 private:
  // One answer of a request, and what its reader has heard.
  struct Choice {
    std::vector<TokenId> answer;  // in full, if nothing ends it early
    size_t num_tokens = 0;
    bool ended = false;
    bool cancelling = false;  // from the next step on it has ended
    bool stalled = false;     // it has tokens, but got none in the last step
  };
  // A request that was accepted.
  struct Client {
    uint64_t number = 0;
    std::string id;
    std::vector<TokenId> prompt;
    int max_tokens = 0;
    bool wants_prompt_logprobs = false;
    bool cancelling = false;
    absl::Time deadline;
    Rank rank;
    std::shared_ptr<TokenStream> stream;
    bool started = false;
    bool failed = false;
    bool has_prompt_logprobs = false;
    std::vector<Choice> choices;
    int64_t steps_lived = 0;
    int64_t max_steps = 0;

    bool ended() const;
  };

  int Below(int n) { return below_(n); }
  Request MakeUpRequest();
  void Submit();
  void Cancel();
  void CancelChoice();
  void Step();
  void CheckPace(const std::map<uint64_t, std::vector<size_t>>& tokens_before,
                 int64_t num_preempted);
  void CheckProgress();
  void CheckEnds(absl::Time step_start);
  void Read(Client& client);
  void On(Client& client, const StartedEvent& event);
  void On(Client& client, const PromptLogprobsEvent& event);
  void On(Client& client, const TokenEvent& event);
  void On(Client& client, const FinishedEvent& event);
  void On(Client& client, const FailedEvent& event);
  void CheckBatch(absl::Span<const model::SequenceStep> batch);
  void CheckLoad();
  void DropEnded();
  Client* PickClient();
  int64_t StepsAlone(const Client& client) const;

  const Setup setup_;
  const std::function<int(int)> below_;
  std::vector<std::vector<TokenId>> beginnings_;
  TestEngine engine_;
  uint64_t next_number_ = 0;
  std::map<uint64_t, std::unique_ptr<Client>> live_;  // by number
  int num_finished_ = 0;
  int num_failed_ = 0;
  int num_refused_ = 0;
};

}  // namespace sluice::scheduler
