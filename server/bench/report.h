// What sluice-bench prints.
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
  // Read bandwidth of the machine, in bytes per second.
  double read_bandwidth = 0;
  double load_seconds = 0;
  int64_t peak_rss_bytes = 0;
  std::vector<Measurement> results;
};

// One object with the fields of Report and Measurement; rates in tokens, 10^9 bytes and 10^9
// operations per second.
std::string ToJson(const Report& report);

// The same for people.
std::string ToTable(const Report& report);

}  // namespace sluice::bench
