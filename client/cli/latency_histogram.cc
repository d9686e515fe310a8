#include "cli/latency_histogram.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace sluice::cli {
namespace {

// Bucket 0 holds up to a microsecond, bucket i up to kGrowth^i microseconds; the last holds the
// rest, which starts after two days.
constexpr double kGrowth = 1.01;
constexpr int kNumBuckets = 2600;

size_t BucketOf(absl::Duration duration) {
  const double microseconds = absl::ToDoubleMicroseconds(duration);
  if (!(microseconds > 1)) return 0;
  const double index = std::ceil(std::log(microseconds) / std::log(kGrowth));
  return static_cast<size_t>(std::min(index, static_cast<double>(kNumBuckets - 1)));
}

absl::Duration UpperBound(size_t bucket) {
  if (bucket == kNumBuckets - 1) return absl::InfiniteDuration();
  return absl::Microseconds(std::pow(kGrowth, static_cast<double>(bucket)));
}

}  // namespace

void LatencyHistogram::Add(absl::Duration duration, int64_t count) {
  duration = std::max(duration, absl::ZeroDuration());
  if (buckets_.empty()) buckets_.resize(kNumBuckets);
  buckets_[BucketOf(duration)] += count;
  count_ += count;
  sum_ += duration * count;
  max_ = std::max(max_, duration);
}

void LatencyHistogram::Add(const LatencyHistogram& other) {
  if (other.count_ == 0) return;
  if (buckets_.empty()) buckets_.resize(kNumBuckets);
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

absl::Duration LatencyHistogram::Percentile(double share) const {
  const auto rank = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(share * count_)));
  int64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= rank) return std::min(UpperBound(i), max_);
  }
  return max_;
}

absl::Duration LatencyHistogram::Mean() const {
  return count_ == 0 ? absl::ZeroDuration() : sum_ / count_;
}

}  // namespace sluice::cli
