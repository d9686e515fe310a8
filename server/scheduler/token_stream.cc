#include "scheduler/token_stream.h"

#include <iterator>
#include <utility>

namespace sluice::scheduler {

TokenStream::TokenStream(std::function<void()> on_readable)
    : on_readable_(std::move(on_readable)) {}

std::vector<StreamEvent> TokenStream::Take() {
  base::MutexLock lock(mutex_);
  return std::exchange(events_, {});
}

void TokenStream::Put(std::vector<StreamEvent> events) {
  if (events.empty()) return;
  bool was_empty;
  {
    base::MutexLock lock(mutex_);
    was_empty = events_.empty();
    if (was_empty) {
      events_ = std::move(events);
    } else {
      events_.insert(events_.end(), std::make_move_iterator(events.begin()),
                     std::make_move_iterator(events.end()));
    }
  }
  if (was_empty) on_readable_();
}

}  // namespace sluice::scheduler
