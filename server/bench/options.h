// The command line of sluice-bench.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/engine_bench.h"

namespace sluice::bench {

struct BenchOptions {
  // A checkpoint's folder.
  std::string model;
  // As FindFormat takes it.
  std::string weights = "auto";
  // 0: as many as physical cores that the process may use.
  int threads = 0;
  Workload workload;
  // How often everything is measured.
  int rounds = 3;
  // In place of these rounds: each line read from standard input starts one, over the contexts that
  // stand on it (none: all), whose figures are printed as a line of JSON.
  bool interactive = false;
  // Compare formats with f32 instead of measuring speed: all, or `weights` if that is not auto.
  bool quality = false;
  // Conversations for that; empty: golden.json and heldout.jsonl in the checkpoint's folder.
  std::string texts;
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

// Contexts with commas between them, which are all among those of `workload`; an empty text means
// all of these. INVALID_ARGUMENT otherwise.
absl::StatusOr<std::vector<int>> ParseContexts(const std::string& text, const Workload& workload);

}  // namespace sluice::bench
