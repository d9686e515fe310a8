#include "metrics/histogram.h"

#include <algorithm>
#include <cstddef>
#include <thread>
#include <utility>

namespace sluice::metrics {

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::Observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  begun_.fetch_add(1, std::memory_order_relaxed);
  // Who sees one of these numbers changed sees that something was begun.
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_release);
  sum_.fetch_add(value, std::memory_order_release);
  // Who sees this sees the numbers changed.
  done_.fetch_add(1, std::memory_order_release);
}

// A copy is whole if all that was begun by its end had been done before it. If not, it is made
// again, which is rare: an observation takes some ten nanoseconds, and between two steps of the
// engine there is none.
HistogramCounts Histogram::Read() const {
  HistogramCounts read{.bounds = bounds_, .counts = std::vector<int64_t>(counts_.size())};
  for (;; std::this_thread::yield()) {
    const uint64_t done = done_.load(std::memory_order_acquire);
    for (size_t i = 0; i < counts_.size(); ++i) {
      read.counts[i] = counts_[i].load(std::memory_order_acquire);
    }
    read.sum = sum_.load(std::memory_order_acquire);
    if (begun_.load(std::memory_order_relaxed) == done) return read;
  }
}

}  // namespace sluice::metrics
