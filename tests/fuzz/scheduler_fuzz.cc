// Clients that do anything at all to an engine: each byte is a choice of theirs. What must hold is
// checked after each operation; RandomClients says what.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "random_clients.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::scheduler::RandomClients;
  static auto& metrics = *new sluice::scheduler::TestMetrics;
  // Nobody catches it: libFuzzer keeps the input of a process that aborts, not of one that traps.
  GTEST_FLAG_SET(throw_on_failure, true);
  size_t at = 0;
  const auto below = [&](int n) { return at < size ? data[at++] % n : 0; };
  RandomClients::Setup setup;
  setup.metrics = &metrics;
  setup.max_waiting_requests = 1 + below(20);
  setup.max_waiting_tokens = 1 + 20 * below(100);
  setup.max_running_requests = 1 + below(16);
  setup.max_step_tokens = setup.max_running_requests + below(64);
  setup.num_kv_blocks = 6 + below(20);
  // No byte of its own, so that inputs that were found before it keep their meaning.
  if (setup.num_kv_blocks % 2 == 1) setup.max_step_slowdown = 2;
  RandomClients clients(setup, below);
  while (at < size) clients.Operate();
  clients.Finish();
  return 0;
}
