// The command line of sluice-bench.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "bench/engine_bench.h"
#include "config/server_config.h"

namespace sluice::bench {

struct BenchOptions {
  // A checkpoint's folder.
  std::string model;
  config::WeightsFormat weights = config::WeightsFormat::kAuto;
  // 0: as many as physical cores that the process may use.
  int threads = 0;
  Workload workload;
  // Print JSON instead of a table.
  bool json = false;
};

struct ParsedOptions {
  BenchOptions options;
  // Not empty: --help or --version was given; print this and exit with code 0.
  std::string text;
};

// INVALID_ARGUMENT, naming the flag, for an unknown flag, a stray argument, a bad value, or no
// --model.
absl::StatusOr<ParsedOptions> ParseOptions(int argc, const char* const* argv);

}  // namespace sluice::bench
