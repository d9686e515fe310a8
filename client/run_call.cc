#include "client/run_call.h"

#include <memory>

#include "base/mutex.h"
#include "client/attempts.h"

namespace sluice::client {
namespace {

// What one thread waits for and another sets off.
struct Signal {
  base::Mutex mutex;
  base::CondVar changed;
  bool set ABSL_GUARDED_BY(mutex) = false;

  void Set() {
    base::MutexLock lock(mutex);
    set = true;
    changed.NotifyAll();
  }
  void Await() {
    base::MutexLock lock(mutex);
    while (!set) changed.Wait(mutex);
  }
};

}  // namespace

absl::Status RunCall(
    const CallOptions& options,
    absl::FunctionRef<grpc::Status(grpc::ClientContext&, bool& answered)> attempt) {
  Attempts attempts(options);
  for (;;) {
    bool answered = false;
    const grpc::Status status = attempt(attempts.Next(), answered);
    const auto delay = attempts.DelayAfter(status, answered);
    if (!delay) return ToAbslStatus(status);
    // Shared: whoever sets it may still be leaving when this thread goes on.
    const auto over = std::make_shared<Signal>();
    attempts.Wait(*delay, [over] { over->Set(); });
    over->Await();
    if (attempts.cancelled()) return absl::CancelledError("cancelled before it was tried again");
  }
}

}  // namespace sluice::client
