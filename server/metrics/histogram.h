// Histogram: how many observations lie between which bounds, and their sum.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace sluice::metrics {

// What a histogram has counted until one moment. counts[i] are the observations above bounds[i - 1]
// and up to bounds[i], the last of them those above all bounds: counts has one element more.
struct HistogramCounts {
  std::vector<double> bounds;
  std::vector<int64_t> counts;
  double sum = 0;  // of the same observations
};

// Thread-safe, without a lock: whoever observes never waits for those who read, not even for one
// that loses its processor while it reads. Readers see whole observations only.
class Histogram {
 public:
  // `bounds` ascend.
  explicit Histogram(std::vector<double> bounds);

  void Observe(double value);
  HistogramCounts Read() const;

 private:
  const std::vector<double> bounds_;
  // An observation changes these in this order.
  std::vector<std::atomic<int64_t>> counts_;
  std::atomic<double> sum_{0};
  std::atomic<int64_t> done_{0};
};

}  // namespace sluice::metrics
