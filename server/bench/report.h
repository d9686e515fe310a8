// What sluice-bench prints of the engine's speed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/engine_bench.h"

namespace sluice::bench {

struct Report {
  std::string model;
  std::string weights;
  int threads = 0;
  std::string cpu;
  std::string isa;
  double load_seconds = 0;
  // When the model was loaded: packing is what takes most.
  int64_t peak_rss_bytes = 0;
  // Of the machine, in bytes per second, in the order in which it was measured.
  std::vector<double> read_bandwidths;
  // Of all rounds.
  std::vector<Measurement> measurements;
};

struct Spread {
  double median = 0;  // of an even number, the mean of the middle two
  double min = 0;
  double max = 0;
};
// All 0 for no values.
Spread SpreadOf(std::vector<double> values);

// The rounds of one measurement; medians but for the first spread.
struct Row {
  Measurement first;  // phase, context, batch and tokens are the same in all rounds
  int rounds = 0;
  Spread tokens_per_second;
  double step_seconds = 0;
  double weight_rate = 0;  // bytes of weights per second
  double read_rate = 0;    // bytes of weights and KV cache per second
  double flop_rate = 0;
  double read_bandwidth = 0;   // of the machine, around these rounds
  double bandwidth_share = 0;  // read_rate / read_bandwidth of the same round; 0 if not measured
  // What a step takes beyond reading its bytes at the machine's bandwidth.
  double seconds_beyond_reading = 0;
};
// In the order in which they first came.
std::vector<Row> Rows(const std::vector<Measurement>& measurements);

// One object; rates in tokens, 10^9 bytes and 10^9 operations per second. On one line if `compact`.
std::string ToJson(const Report& report, bool compact = false);

// The same for people.
std::string ToTable(const Report& report);

}  // namespace sluice::bench
