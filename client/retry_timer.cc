#include "client/retry_timer.h"

#include <grpcpp/alarm.h>

#include <chrono>
#include <random>
#include <utility>

#include "base/clock.h"

namespace sluice::client {
namespace {

class AlarmWait final : public RetryTimer::Wait {
 public:
  static std::shared_ptr<AlarmWait> Start(absl::Duration delay, std::function<void()> done) {
    auto wait = std::make_shared<AlarmWait>();
    wait->self_ = wait;
    const auto deadline = std::chrono::system_clock::now() + absl::ToChronoNanoseconds(delay);
    wait->alarm_.Set(std::chrono::time_point_cast<std::chrono::system_clock::duration>(deadline),
                     [wait = wait.get(), done = std::move(done)](bool) {
                       // The alarm keeps this function as long as it lives itself.
                       const auto self = std::move(wait->self_);
                       done();
                     });
    return wait;
  }

  void Cancel() override { alarm_.Cancel(); }

 private:
  grpc::Alarm alarm_;
  // Until the alarm has called.
  std::shared_ptr<AlarmWait> self_;
};

class SystemTimer final : public RetryTimer {
 public:
  absl::Time Now() const override { return base::Clock::System().Now(); }

  double Random() override {
    thread_local std::mt19937_64 random{std::random_device()()};
    return std::uniform_real_distribution<double>(0, 1)(random);
  }

  std::shared_ptr<Wait> Start(absl::Duration delay, std::function<void()> done) override {
    return AlarmWait::Start(delay, std::move(done));
  }
};

}  // namespace

RetryTimer& RetryTimer::System() {
  static auto& timer = *new SystemTimer;
  return timer;
}

}  // namespace sluice::client
