// ActiveCalls: counts the answers that are under way, so that there are not too many and a shutdown
// can wait for them; and the streams that bring requests for answers, whether they have any or not.
#pragma once

#include <condition_variable>
#include <mutex>

#include "absl/time/time.h"

namespace sluice::api {

// Thread-safe.
class ActiveCalls {
 public:
  // Counts as one active call while it lives.
  class Ticket {
   public:
    explicit Ticket(ActiveCalls& calls) : calls_(calls) { calls_.Add(1); }
    ~Ticket() { calls_.Add(-1); }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

   private:
    ActiveCalls& calls_;
  };

  // Counts as one stream while it lives. A shutdown does not wait for streams.
  class StreamTicket {
   public:
    explicit StreamTicket(ActiveCalls& calls) : calls_(calls) { calls_.AddStream(1); }
    ~StreamTicket() { calls_.AddStream(-1); }
    StreamTicket(const StreamTicket&) = delete;
    StreamTicket& operator=(const StreamTicket&) = delete;

   private:
    ActiveCalls& calls_;
  };

  explicit ActiveCalls(int max_calls) : max_calls_(max_calls) {}

  // Whether there are more than max_calls. A call asks when it is one of them itself.
  bool Overfull();
  // The same for streams, of which there may be as many.
  bool TooManyStreams();

  // Waits until no call is active, at most `timeout`; returns how many still are.
  int WaitUntilNone(absl::Duration timeout);

 private:
  void Add(int change);
  void AddStream(int change);

  const int max_calls_;
  // base::CondVar has no wait with a time limit.
  std::mutex mutex_;
  std::condition_variable changed_;
  int active_ = 0;
  int streams_ = 0;
};

}  // namespace sluice::api
