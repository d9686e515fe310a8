#include "model/feed_forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "model/weights.h"
#include "support/random_checkpoint.h"
#include "support/rounding.h"
#include "support/tolerance.h"

namespace sluice::model {
namespace {

using kernels::WeightFormat;
using testing::RandomCheckpoint;

// What a network must do, token by token, in double: with the numbers that the format holds.
class NaiveFfn {
 public:
  NaiveFfn(WeightFormat format, const FfnTensors& ffn, const kernels::QuantizedOps* quantized)
      : format_(format),
        gate_(Rounded(ffn.gate, quantized)),
        up_(Rounded(ffn.up, quantized)),
        down_(Rounded(ffn.down, quantized)) {}

  std::vector<double> Run(absl::Span<const float> x) const {
    const std::vector<double> input(x.begin(), x.end());
    std::vector<double> hidden = Product(gate_, input);
    const std::vector<double> up = Product(up_, input);
    for (size_t i = 0; i < hidden.size(); ++i)
      hidden[i] = hidden[i] / (1 + std::exp(-hidden[i])) * up[i];
    return Product(down_, hidden);
  }

 private:
  std::vector<double> Rounded(const TensorView& w, const kernels::QuantizedOps* quantized) const {
    return testing::RoundWeights(format_, {kernels::ElementType::kF32, w.rows, w.cols, w.data},
                                 quantized);
  }
  std::vector<double> Product(const std::vector<double>& w, const std::vector<double>& x) const {
    const std::vector<double> numbers = testing::RoundRow(format_, x);
    std::vector<double> y(w.size() / x.size());
    for (size_t n = 0; n < y.size(); ++n)
      y[n] = std::inner_product(numbers.begin(), numbers.end(), w.begin() + n * x.size(), 0.0);
    return y;
  }

  const WeightFormat format_;
  const std::vector<double> gate_, up_, down_;
};

// Experts for each token; some get all tokens, some none.
struct RandomRoutes {
  RandomRoutes(const RouterConfig& router, int64_t num_tokens, unsigned seed) {
    std::mt19937 random(seed);
    for (int64_t token = 0; token < num_tokens; ++token) {
      std::vector<int32_t> ids(router.num_experts - 1);  // never the last
      std::iota(ids.begin(), ids.end(), 0);
      std::shuffle(ids.begin() + 1, ids.end(), random);  // always the first
      for (int k = 0; k < router.top_k; ++k) {
        experts.push_back(ids[k]);
        weights.push_back(std::uniform_real_distribution<float>(0.1f, 1)(random));
      }
    }
  }
  Routes routes() const { return {.experts = experts, .weights = weights}; }

  std::vector<int32_t> experts;
  std::vector<float> weights;
};

std::vector<float> RandomRows(int64_t rows, int64_t size) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> x(rows * size);
  for (float& value : x) value = normal(random);
  return x;
}

constexpr int64_t kMaxTokens = 100;

class FeedForwardTest : public ::testing::TestWithParam<WeightFormat> {
 protected:
  static ModelConfig Config(bool shared, bool gate) {
    ModelConfig config = testing::SmallModelConfig();
    config.layers = {{.sparse = true}, {.sparse = false}};
    config.dense_ffn_size = 75;
    config.shared_ffn_size = shared ? 51 : 0;
    config.shared_gate = gate;
    return config;
  }

  void SetUp() override {
    auto kernels = kernels::SelectKernels(GetParam());
    if (GetParam() == WeightFormat::kBf16 && absl::IsFailedPrecondition(kernels.status()))
      GTEST_SKIP() << kernels.status();
    ASSERT_TRUE(kernels.ok()) << kernels.status();
    kernels_ = *std::move(kernels);
    for (const int64_t k : {43, 37, 75, 51})
      ASSERT_TRUE(kernels_.matmul(GetParam()).Prepare(k).ok());
  }

  Weights Pack(const Checkpoint& checkpoint) {
    base::ThreadPool pool({.num_threads = 2});
    auto weights = Weights::Pack(checkpoint, {.format = GetParam(),
                                              .vector = kernels_.vector,
                                              .quantized = kernels_.quantized,
                                              .pool = &pool});
    EXPECT_TRUE(weights.ok()) << weights.status();
    return *std::move(weights);
  }
  NaiveFfn Naive(const FfnTensors& ffn) const { return {GetParam(), ffn, kernels_.quantized}; }

  // f32: a few dozen roundings. Otherwise the naive loops round at the same places, but a hidden
  // value whose neighbours are equally near may go either way: relative to the distance of two
  // neighbours f32's error is some 1e-4, and so one number in some thousand errs differently, by
  // what it costs the format. That is an NMSE of 1e-5 in bf16, and 1e-4 in u8.
  double NmseBound() const { return GetParam() == WeightFormat::kF32 ? 1e-12 : 1e-6; }

  kernels::KernelSet kernels_;
};

// For any number of tokens, all of which go to the first expert and none to the last, and any
// number of threads; and each token's result has the same bits in all of them.
TEST_P(FeedForwardTest, ExpertsAgreeWithALoopOverTokensForAnyBatchAndThreadCount) {
  struct Case {
    bool shared;
    bool gate;
    int top_k;  // with 1 all tokens are on one expert
  };
  for (const Case& c :
       {Case{false, false, 3}, {true, false, 3}, {true, true, 3}, {true, true, 1}}) {
    ModelConfig config = Config(c.shared, c.gate);
    config.router.top_k = c.top_k;
    const int64_t hidden = config.hidden_size;
    const RandomCheckpoint checkpoint(config, DType::kF32, 1);
    const LayerTensors& tensors = checkpoint.tensors().layers[0];
    const Weights weights = Pack(checkpoint);
    const std::vector<float> x = RandomRows(kMaxTokens, hidden);
    const RandomRoutes routes(config.router, kMaxTokens, 3);

    std::vector<NaiveFfn> experts;
    for (const FfnTensors& expert : tensors.experts) experts.push_back(Naive(expert));
    std::vector<double> expected(x.size(), 0.5);
    for (int64_t token = 0; token < kMaxTokens; ++token) {
      const auto row = absl::MakeConstSpan(x).subspan(token * hidden, hidden);
      const auto add = [&](const NaiveFfn& ffn, double weight) {
        const std::vector<double> out = ffn.Run(row);
        for (int64_t i = 0; i < hidden; ++i) expected[token * hidden + i] += weight * out[i];
      };
      for (int k = 0; k < c.top_k; ++k) {
        const int64_t i = token * c.top_k + k;
        add(experts[routes.experts[i]], routes.weights[i]);
      }
      if (c.shared) {
        const std::vector<float>& w = weights.layers[0].shared_gate;
        const double logit = std::inner_product(w.begin(), w.end(), row.begin(), 0.0);
        add(Naive(*tensors.shared), c.gate ? 1 / (1 + std::exp(-logit)) : 1);
      }
    }

    std::vector<float> all;
    for (const int num_threads : {1, 2, 3, 5}) {
      base::ThreadPool pool({.num_threads = num_threads});
      kernels::Compute compute(kernels_, pool, {.max_rows = kMaxTokens, .max_k = 75});
      FeedForward feed_forward(config, compute, kMaxTokens);
      for (int64_t num_tokens = kMaxTokens; num_tokens > 0;
           num_tokens -= num_threads == 1 ? 1 : 11) {
        // The last tokens, so that each stands at another place in its tile.
        const int64_t first = kMaxTokens - num_tokens;
        const Routes some = {
            .experts = absl::MakeConstSpan(routes.experts).subspan(first * c.top_k),
            .weights = absl::MakeConstSpan(routes.weights).subspan(first * c.top_k)};
        std::vector<float> y(num_tokens * hidden, 0.5f);
        feed_forward.RunExperts(weights.layers[0], some, x.data() + first * hidden, num_tokens,
                                y.data());
        if (all.empty()) {
          all = y;
          EXPECT_LE((testing::Nmse<float, double>(y, expected)), NmseBound());
        }
        ASSERT_EQ(std::memcmp(y.data(), all.data() + first * hidden, y.size() * sizeof(float)), 0)
            << num_tokens << " tokens, " << num_threads << " threads";
      }
    }
  }
}

TEST_P(FeedForwardTest, DenseAgreesWithALoopOverTokens) {
  const ModelConfig config = Config(false, false);
  const int64_t hidden = config.hidden_size;
  const RandomCheckpoint checkpoint(config, DType::kF32, 1);
  base::ThreadPool pool({.num_threads = 2});
  kernels::Compute compute(kernels_, pool, {.max_rows = kMaxTokens, .max_k = 75});
  const Weights weights = Pack(checkpoint);
  const NaiveFfn naive = Naive(*checkpoint.tensors().layers[1].dense);
  FeedForward feed_forward(config, compute, kMaxTokens);
  for (const int64_t num_tokens : {1, 32, 70}) {
    const std::vector<float> x = RandomRows(num_tokens, hidden);
    std::vector<float> y(x.size(), 0.0f);
    feed_forward.RunDense(weights.layers[1], x.data(), num_tokens, y.data());
    std::vector<double> expected;
    for (int64_t token = 0; token < num_tokens; ++token) {
      const std::vector<double> out =
          naive.Run(absl::MakeConstSpan(x).subspan(token * hidden, hidden));
      expected.insert(expected.end(), out.begin(), out.end());
    }
    EXPECT_LE((testing::Nmse<float, double>(y, expected)), NmseBound());
  }
}

// A token that is not a number spoils itself and nobody else.
TEST_P(FeedForwardTest, NanStaysInItsRow) {
  const ModelConfig config = Config(true, true);
  const int64_t hidden = config.hidden_size;
  const RandomCheckpoint checkpoint(config, DType::kF32, 1);
  base::ThreadPool pool({.num_threads = 2});
  kernels::Compute compute(kernels_, pool, {.max_rows = kMaxTokens, .max_k = 75});
  const Weights weights = Pack(checkpoint);
  FeedForward feed_forward(config, compute, kMaxTokens);
  std::vector<float> x = RandomRows(40, hidden);
  x[17 * hidden + 5] = std::numeric_limits<float>::quiet_NaN();
  const RandomRoutes routes(config.router, 40, 3);
  std::vector<float> y(x.size(), 0.0f);
  feed_forward.RunExperts(weights.layers[0], routes.routes(), x.data(), 40, y.data());
  for (size_t i = 0; i < y.size(); ++i)
    ASSERT_EQ(std::isnan(y[i]), static_cast<int64_t>(i) / hidden == 17) << i;
}

INSTANTIATE_TEST_SUITE_P(Formats, FeedForwardTest, ::testing::ValuesIn(kernels::kAllWeightFormats),
                         [](const auto& param) { return kernels::NameOf(param.param); });

}  // namespace
}  // namespace sluice::model
