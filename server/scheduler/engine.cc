#include "scheduler/engine.h"

#include <thread>
#include <utility>

#include "base/check.h"
#include "base/mutex.h"
#include "scheduler/engine_core.h"

namespace sluice::scheduler {

struct Engine::State {
  explicit State(const Options& options) : core(options) {}

  void RunThread() {
    while (core.AwaitWork()) core.Step();
    core.EndAll("the server is stopping");
  }

  EngineCore core;
  // Held by whoever starts or stops, never by the engine thread.
  base::Mutex mutex;
  bool stopped ABSL_GUARDED_BY(mutex) = false;
  std::thread thread ABSL_GUARDED_BY(mutex);
};

Engine::Engine(const Options& options) : state_(std::make_unique<State>(options)) {}

Engine::~Engine() { Stop(); }

void Engine::Start() {
  base::MutexLock lock(state_->mutex);
  if (state_->stopped) return;
  CHECK(!state_->thread.joinable());
  state_->thread = std::thread([this] { state_->RunThread(); });
}

absl::Status Engine::Submit(Request request, std::shared_ptr<TokenStream> stream) {
  return state_->core.Submit(std::move(request), std::move(stream));
}

absl::Status Engine::Cancel(absl::string_view id, const TokenStream* stream,
                            std::optional<int> choice) {
  return state_->core.Cancel(id, stream, choice);
}

EngineLoad Engine::Load() const { return state_->core.Load(); }

absl::Duration Engine::RetryDelay() const { return state_->core.RetryDelay(); }

void Engine::Drain() { state_->core.Drain(); }

void Engine::Stop() {
  state_->core.Close();
  base::MutexLock lock(state_->mutex);
  if (state_->stopped) return;
  state_->stopped = true;
  // An engine that never started has requests to end all the same, and its thread is the one that
  // does so.
  if (!state_->thread.joinable()) state_->thread = std::thread([this] { state_->RunThread(); });
  state_->thread.join();
}

}  // namespace sluice::scheduler
