// BM_Brgemm_*: what oneDNN's brgemm ukernels reach by themselves, without the engine around them:
// the measure for prefill (docs/performance.md). K = N = 2048 in blocks of 32 columns, M rows, as
// many threads as the benchmark says, each with its own weights; out of memory or out of cache.
#include <benchmark/benchmark.h>
#include <oneapi/dnnl/dnnl.h>
#include <oneapi/dnnl/dnnl_ukernel.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/aligned_buffer.h"

namespace sluice {
namespace {

constexpr int64_t kK = 2048;
constexpr int64_t kBlockColumns = 32;
constexpr int64_t kBytesInMemory = 128 << 20;
// Fits into the second-level cache beside the activations.
constexpr int64_t kBytesInCache = 256 << 10;

struct Types {
  const char* name;
  dnnl_data_type_t a, b, c;
  int64_t bytes;  // of an element of a and of b
};
constexpr Types kBf16 = {"bf16", dnnl_bf16, dnnl_bf16, dnnl_f32, 2};
constexpr Types kInt8 = {"u8s8", dnnl_u8, dnnl_s8, dnnl_s32, 1};

dnnl_brgemm_t Make(const Types& types, int64_t m) {
  dnnl_brgemm_t kernel = nullptr;
  if (dnnl_brgemm_create(&kernel, m, kBlockColumns, kK, /*batch_size=*/1, /*lda=*/kK,
                         /*ldb=*/kBlockColumns, /*ldc=*/kBlockColumns, types.a, types.b,
                         types.c) != dnnl_success) {
    return nullptr;
  }
  if (dnnl_brgemm_finalize(kernel) == dnnl_success &&
      dnnl_brgemm_generate(kernel) == dnnl_success) {
    return kernel;
  }
  dnnl_brgemm_destroy(kernel);
  return nullptr;
}

// Each iteration multiplies with one block of 32 columns. What the weights say does not matter;
// zeros are numbers in every format.
void BM_Brgemm_Run(benchmark::State& state, const Types& types, bool in_cache) {
  const int64_t m = state.range(0);
  const int64_t block_bytes = kK * kBlockColumns * types.bytes;
  const int64_t num_blocks = (in_cache ? kBytesInCache : kBytesInMemory) / block_bytes;
  dnnl_brgemm_t kernel = Make(types, m);
  if (kernel == nullptr) {
    state.SkipWithError("oneDNN makes no such kernel here");
    return;
  }
  size_t scratch_bytes = 0;
  dnnl_brgemm_get_scratchpad_size(kernel, &scratch_bytes);
  kernels::AlignedBuffer<std::byte> a(m * kK * types.bytes);
  kernels::AlignedBuffer<std::byte> b(num_blocks * block_bytes);
  kernels::AlignedBuffer<std::byte> c(m * kBlockColumns * 4);
  kernels::AlignedBuffer<std::byte> scratch(scratch_bytes + 64);
  dnnl_brgemm_set_hw_context(kernel);
  constexpr dnnl_dim_t kOffsets[2] = {0, 0};
  int64_t block = 0;
  for (auto _ : state) {
    dnnl_brgemm_execute(kernel, a.data(), b.data() + block * block_bytes, kOffsets, c.data(),
                        scratch.data());
    benchmark::ClobberMemory();
    if (++block == num_blocks) block = 0;
  }
  dnnl_brgemm_release_hw_context();
  dnnl_brgemm_destroy(kernel);
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["weights_bytes/s"] = {iterations * static_cast<double>(block_bytes),
                                       benchmark::Counter::kIsRate};
  state.counters["FLOP/s"] = {iterations * 2.0 * static_cast<double>(m * kK * kBlockColumns),
                              benchmark::Counter::kIsRate};
}

void RegisterBenchmarks() {
  for (const Types* types : {&kBf16, &kInt8}) {
    for (const bool in_cache : {false, true}) {
      const std::string name =
          std::string("BM_Brgemm_Run/") + types->name + (in_cache ? "/cache" : "/memory");
      auto* benchmark = benchmark::RegisterBenchmark(
          name.c_str(), [=](benchmark::State& state) { BM_Brgemm_Run(state, *types, in_cache); });
      benchmark->ArgName("M")->UseRealTime();
      for (const int m : {1, 4, 8, 16, 32, 64}) benchmark->Arg(m);
      benchmark->Threads(1)->Threads(2);
    }
  }
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  sluice::RegisterBenchmarks();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
