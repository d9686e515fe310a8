#include "cli/load_generator.h"

#include <memory>
#include <random>
#include <utility>

#include "absl/time/clock.h"
#include "base/mutex.h"

namespace sluice::cli {
namespace {

// One request on its way. Its events come one after another, so this needs no lock.
struct Flight {
  absl::Time intended_start;
  absl::Time start;
  absl::Time first_token;
  absl::Time last_token;
  bool answered = false;
  int64_t num_tokens = 0;
  LatencyHistogram inter_token;
  v1::Usage usage;

  void Take(const v1::GenerateResponse& event, absl::Time now) {
    answered = true;
    if (event.has_finished()) usage = event.finished().usage();
    const int count = event.delta().token_ids_size();
    if (count == 0) return;
    if (num_tokens == 0) {
      first_token = now;
    } else {
      inter_token.Add((now - last_token) / count, count);
    }
    num_tokens += count;
    last_token = now;
  }
};

// What the flights share.
class Tally {
 public:
  explicit Tally(int max_in_flight) : max_in_flight_(max_in_flight) {}

  // Waits for a free place and takes it.
  void Enter() {
    base::MutexLock lock(mutex_);
    while (in_flight_ >= max_in_flight_) changed_.Wait(mutex_);
    ++in_flight_;
  }

  void Leave(const Flight& flight, const absl::Status& status, absl::Time now) {
    base::MutexLock lock(mutex_);
    if (status.ok()) {
      Count(flight, now);
    } else {
      if (report_.failed.empty()) report_.first_error = status;
      ++report_.failed[status.code()];
      if (absl::IsResourceExhausted(status) && !flight.answered) {
        ++report_.num_refused;
        report_.refusal.Add(now - flight.start);
      }
    }
    --in_flight_;
    changed_.NotifyAll();
  }

  // Waits until nothing is in flight. REQUIRES: nothing enters any more.
  LoadReport TakeReport() {
    base::MutexLock lock(mutex_);
    while (in_flight_ > 0) changed_.Wait(mutex_);
    return std::move(report_);
  }

 private:
  void Count(const Flight& flight, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ++report_.num_ok;
    report_.prompt_tokens += flight.usage.prompt_tokens();
    report_.generated_tokens += flight.usage.generated_tokens();
    if (flight.num_tokens > 0) report_.first_token.Add(flight.first_token - flight.intended_start);
    report_.latency.Add(now - flight.intended_start);
    report_.inter_token.Add(flight.inter_token);
    report_.send_delay.Add(flight.start - flight.intended_start);
  }

  const int max_in_flight_;
  base::Mutex mutex_;
  base::CondVar changed_;
  int in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  LoadReport report_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::optional<absl::Duration> CancelPlan::TimeOf(int64_t i) const {
  std::seed_seq sequence{seed, static_cast<uint64_t>(i)};
  std::mt19937_64 random(sequence);
  // From 0 up to 1, the same on every machine.
  const auto uniform = [&random] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  if (uniform() >= share) return std::nullopt;
  return within * uniform();
}

LoadReport RunLoad(const LoadPlan& plan, const StartCall& start_call, const base::Clock& clock) {
  // Shared with the callbacks: the last of them may still be leaving when this function returns.
  const auto tally = std::make_shared<Tally>(plan.max_in_flight);
  const bool open_loop = !plan.arrivals.empty();
  const int64_t num_requests =
      open_loop ? static_cast<int64_t>(plan.arrivals.size()) : plan.num_requests;
  const absl::Time begin = clock.Now();
  for (int64_t i = 0; i < num_requests; ++i) {
    const auto flight = std::make_shared<Flight>();
    if (open_loop) {
      flight->intended_start = begin + plan.arrivals[i];
      absl::SleepFor(flight->intended_start - clock.Now());
    }
    tally->Enter();
    flight->start = clock.Now();
    if (!open_loop) flight->intended_start = flight->start;
    start_call(
        i,
        [flight, &clock](const v1::GenerateResponse& event) { flight->Take(event, clock.Now()); },
        [flight, tally, &clock](const absl::Status& status) {
          tally->Leave(*flight, status, clock.Now());
        });
  }
  LoadReport report = tally->TakeReport();
  report.num_requests = num_requests;
  report.elapsed = clock.Now() - begin;
  return report;
}

}  // namespace sluice::cli
