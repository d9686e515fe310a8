#include "model/feed_forward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "model/weights.h"
#include "support/random_checkpoint.h"
#include "support/tolerance.h"

namespace sluice::model {
namespace {

using kernels::WeightFormat;
using testing::RandomCheckpoint;

// What the networks must do, token by token, in double.
class NaiveFfn {
 public:
  explicit NaiveFfn(WeightFormat format) : format_(format) {}

  std::vector<double> Run(const FfnTensors& ffn, absl::Span<const float> x) const {
    const std::vector<double> input(x.begin(), x.end());
    std::vector<double> hidden = Product(ffn.gate, input);
    const std::vector<double> up = Product(ffn.up, input);
    for (size_t i = 0; i < hidden.size(); ++i)
      hidden[i] = hidden[i] / (1 + std::exp(-hidden[i])) * up[i];
    return Product(ffn.down, hidden);
  }

 private:
  double Round(double value) const {
    return format_ == WeightFormat::kF32
               ? value
               : kernels::FloatFromBf16(kernels::Bf16FromFloat(static_cast<float>(value)));
  }
  std::vector<double> Product(const TensorView& w, const std::vector<double>& x) const {
    std::vector<double> y(w.rows, 0.0);
    for (int64_t n = 0; n < w.rows; ++n) {
      for (int64_t k = 0; k < w.cols; ++k) {
        y[n] += Round(x[k]) *
                Round(kernels::LoadElement(kernels::ElementType::kF32, w.data, n * w.cols + k));
      }
    }
    return y;
  }

  const WeightFormat format_;
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
    if (absl::IsFailedPrecondition(kernels.status())) GTEST_SKIP() << kernels.status();
    ASSERT_TRUE(kernels.ok()) << kernels.status();
    kernels_ = *std::move(kernels);
    for (const int64_t k : {43, 37, 75, 51})
      ASSERT_TRUE(kernels_.matmul(GetParam()).Prepare(k).ok());
    // f32: a few dozen roundings. bf16: the naive loops round at the same places; a hidden value in
    // the middle between two bf16 numbers may go either way.
    nmse_bound_ = GetParam() == WeightFormat::kF32 ? 1e-12 : 1e-6;
  }

  kernels::KernelSet kernels_;
  double nmse_bound_ = 0;
};

TEST_P(FeedForwardTest, ExpertsAgreeWithALoopOverTokens) {
  for (const auto& [shared, gate] : {std::pair{false, false}, {true, false}, {true, true}}) {
    const ModelConfig config = Config(shared, gate);
    const RandomCheckpoint checkpoint(config, DType::kF32, 1);
    const LayerTensors& tensors = checkpoint.tensors().layers[0];
    for (const int num_threads : {1, 3}) {
      base::ThreadPool pool({.num_threads = num_threads});
      kernels::Compute compute(kernels_, pool, {.max_rows = 100, .max_k = 75});
      const Weights weights = Weights::Pack(checkpoint, GetParam(), pool);
      FeedForward feed_forward(config, compute, GetParam(), 100);
      for (const int64_t num_tokens : {1, 2, 31, 33, 100}) {
        std::mt19937 random(2);
        std::normal_distribution<float> normal;
        std::vector<float> x(num_tokens * config.hidden_size);
        for (float& value : x) value = normal(random);
        const RandomRoutes routes(config.router, num_tokens, 3);
        std::vector<float> y(x.size(), 0.5f);
        feed_forward.RunExperts(weights.layers[0], routes.routes(), x.data(), num_tokens, y.data());

        std::vector<double> expected(y.size(), 0.5);
        const NaiveFfn naive(GetParam());
        for (int64_t token = 0; token < num_tokens; ++token) {
          const auto row =
              absl::MakeConstSpan(x).subspan(token * config.hidden_size, config.hidden_size);
          const auto add = [&](const FfnTensors& ffn, double weight) {
            const std::vector<double> out = naive.Run(ffn, row);
            for (size_t i = 0; i < out.size(); ++i)
              expected[token * config.hidden_size + i] += weight * out[i];
          };
          for (int k = 0; k < config.router.top_k; ++k) {
            const int64_t i = token * config.router.top_k + k;
            add(tensors.experts[routes.experts[i]], routes.weights[i]);
          }
          if (shared) {
            const std::vector<float>& w = weights.layers[0].shared_gate;
            const double logit = std::inner_product(w.begin(), w.end(), row.begin(), 0.0);
            add(*tensors.shared, gate ? 1 / (1 + std::exp(-logit)) : 1);
          }
        }
        EXPECT_LE((testing::Nmse<float, double>(y, expected)), nmse_bound_)
            << num_tokens << " tokens, " << num_threads << " threads";
      }
    }
  }
}

TEST_P(FeedForwardTest, DenseAgreesWithALoopOverTokens) {
  const ModelConfig config = Config(false, false);
  const RandomCheckpoint checkpoint(config, DType::kF32, 1);
  base::ThreadPool pool({.num_threads = 2});
  kernels::Compute compute(kernels_, pool, {.max_rows = 100, .max_k = 75});
  const Weights weights = Weights::Pack(checkpoint, GetParam(), pool);
  FeedForward feed_forward(config, compute, GetParam(), 100);
  for (const int64_t num_tokens : {1, 32, 70}) {
    std::vector<float> x(num_tokens * config.hidden_size);
    for (size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
    std::vector<float> y(x.size(), 0.0f);
    feed_forward.RunDense(weights.layers[1], x.data(), num_tokens, y.data());
    std::vector<double> expected;
    for (int64_t token = 0; token < num_tokens; ++token) {
      const std::vector<double> out =
          NaiveFfn(GetParam())
              .Run(*checkpoint.tensors().layers[1].dense,
                   absl::MakeConstSpan(x).subspan(token * config.hidden_size, config.hidden_size));
      expected.insert(expected.end(), out.begin(), out.end());
    }
    EXPECT_LE((testing::Nmse<float, double>(y, expected)), nmse_bound_);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, FeedForwardTest,
                         ::testing::Values(WeightFormat::kF32, WeightFormat::kBf16));

}  // namespace
}  // namespace sluice::model
