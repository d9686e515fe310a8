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
  // Who sees one of these sees those before it.
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_release);
  sum_.fetch_add(value, std::memory_order_release);
  done_.fetch_add(1, std::memory_order_release);
}

// Reads in the opposite order: what was done is in the sum, and what is in the sum is in the
// counts. So if the counts hold just as many as were done, all three are of the same observations.
// If not, the copy is made again, which is rare: an observation takes some ten nanoseconds.
HistogramCounts Histogram::Read() const {
  HistogramCounts read{.bounds = bounds_, .counts = std::vector<int64_t>(counts_.size())};
  for (;; std::this_thread::yield()) {
    const int64_t done = done_.load(std::memory_order_acquire);
    read.sum = sum_.load(std::memory_order_acquire);
    int64_t total = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      read.counts[i] = counts_[i].load(std::memory_order_acquire);
      total += read.counts[i];
    }
    if (total == done) return read;
  }
}

}  // namespace sluice::metrics
