#include "bench/quality.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "model/cpu_model_runner.h"
#include "model/kv_cache.h"

namespace sluice::bench {
namespace {

constexpr int kStepTokens = 256;

// A runner with one sequence, and the logits of all tokens of its last step.
class Reader : private model::StepObserver {
 public:
  static absl::StatusOr<std::unique_ptr<Reader>> Create(const model::Checkpoint& checkpoint,
                                                        kernels::WeightFormat format,
                                                        int num_threads, int64_t max_tokens) {
    const model::ModelConfig& config = checkpoint.config();
    const int64_t num_blocks = (max_tokens + model::kKvBlockTokens - 1) / model::kKvBlockTokens;
    const auto shape = model::KvCache::Shape::Of(config, model::DefaultKvFormat(format));
    auto reader = std::make_unique<Reader>();
    ASSIGN_OR_RETURN(reader->runner_,
                     model::CpuModelRunner::Create(
                         checkpoint, {.weights = format,
                                      .num_threads = num_threads,
                                      .kv_cache_bytes = num_blocks * shape.block_bytes(),
                                      .max_step_tokens = kStepTokens,
                                      .max_step_sequences = 1}));
    reader->runner_->set_observer(reader.get());
    reader->vocab_size_ = static_cast<size_t>(config.vocab_size);
    for (int64_t block = 0; block < num_blocks; ++block)
      reader->blocks_.push_back(static_cast<model::BlockId>(block));
    return reader;
  }

  // Computes `tokens`, which stand at `first` and on.
  void Read(absl::Span<const TokenId> tokens, size_t first) {
    logits_.resize(tokens.size() * vocab_size_);
    const model::SamplingParams greedy;
    model::SequenceStep step;
    step.tokens = tokens;
    step.first_position = static_cast<int64_t>(first);
    step.block_table = blocks_;
    step.sampling = &greedy;
    runner_->Run({&step, 1});
  }

  // Of the index-th token of the last Read.
  absl::Span<const float> logits(size_t index) const {
    return absl::MakeConstSpan(logits_).subspan(index * vocab_size_, vocab_size_);
  }

 private:
  void OnLogits(int64_t row, absl::Span<const float> logits) override {
    std::copy(logits.begin(), logits.end(),
              logits_.begin() + row * static_cast<int64_t>(vocab_size_));
  }

  std::unique_ptr<model::CpuModelRunner> runner_;
  size_t vocab_size_ = 0;
  std::vector<model::BlockId> blocks_;
  std::vector<float> logits_;  // [T, V]
};

// log(sum(exp(logits)))
double LogSumExp(absl::Span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

absl::Status CheckTexts(const model::ModelConfig& config, absl::Span<const QualityText> texts) {
  for (const QualityText& text : texts) {
    CHECK(text.answer_begin >= 1 && text.answer_begin < text.tokens.size());
    if (static_cast<int64_t>(text.tokens.size()) > config.max_context) {
      return absl::InvalidArgumentError(absl::StrCat("a text has ", text.tokens.size(),
                                                     " tokens, but the model's context is ",
                                                     config.max_context));
    }
    for (const TokenId token : text.tokens) {
      if (token < 0 || token >= config.vocab_size) {
        return absl::InvalidArgumentError(
            absl::StrCat("token ", token, " of a text is not in the model's vocabulary"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

void QualityTally::Add(absl::Span<const float> f32_logits, absl::Span<const float> logits,
                       TokenId next, bool is_answer) {
  const double f32_sum = LogSumExp(f32_logits);
  const double sum = LogSumExp(logits);
  double kl = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double f32_log_probability = f32_logits[i] - f32_sum;
    kl += std::exp(f32_log_probability) * (f32_log_probability - (logits[i] - sum));
  }
  ++positions_;
  kl_ += kl;
  if (!is_answer) return;
  ++answer_positions_;
  const auto argmax = [](absl::Span<const float> x) {
    return std::max_element(x.begin(), x.end()) - x.begin();
  };
  if (argmax(f32_logits) == argmax(logits)) ++agreements_;
  f32_log_likelihood_ += f32_logits[next] - f32_sum;
  log_likelihood_ += logits[next] - sum;
}

QualityRow QualityTally::Row(const std::string& format, const std::string& texts) const {
  CHECK(answer_positions_ > 0);
  const auto answers = static_cast<double>(answer_positions_);
  return {.format = format,
          .texts = texts,
          .positions = positions_,
          .answer_positions = answer_positions_,
          .mean_kl = kl_ / static_cast<double>(positions_),
          .argmax_agreement = static_cast<double>(agreements_) / answers,
          .f32_perplexity = std::exp(-f32_log_likelihood_ / answers),
          .perplexity = std::exp(-log_likelihood_ / answers)};
}

absl::StatusOr<QualityRow> MeasureQuality(const model::Checkpoint& checkpoint,
                                          kernels::WeightFormat format, int num_threads,
                                          const std::string& name,
                                          absl::Span<const QualityText> texts) {
  CHECK(!texts.empty());
  RETURN_IF_ERROR(CheckTexts(checkpoint.config(), texts));
  size_t longest = 0;
  for (const QualityText& text : texts) longest = std::max(longest, text.tokens.size());
  const auto max_tokens = static_cast<int64_t>(longest);
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Reader> f32,
      Reader::Create(checkpoint, kernels::WeightFormat::kF32, num_threads, max_tokens));
  ASSIGN_OR_RETURN(const std::unique_ptr<Reader> other,
                   Reader::Create(checkpoint, format, num_threads, max_tokens));
  QualityTally tally;
  for (const QualityText& text : texts) {
    for (size_t first = 0; first < text.tokens.size(); first += kStepTokens) {
      const auto part = absl::MakeConstSpan(text.tokens).subspan(first, kStepTokens);
      f32->Read(part, first);
      other->Read(part, first);
      for (size_t i = 0; i < part.size(); ++i) {
        const size_t next = first + i + 1;
        if (next == text.tokens.size()) break;
        tally.Add(f32->logits(i), other->logits(i), text.tokens[next], next >= text.answer_begin);
      }
    }
  }
  return tally.Row(kernels::NameOf(format), name);
}

std::string QualityTable(absl::Span<const QualityRow> rows) {
  std::string table =
      absl::StrFormat("%-7s %-12s %9s %10s %9s %9s %11s %10s\n", "weights", "texts", "positions",
                      "mean KL", "answers'", "argmax %", "perplexity", "change %");
  for (const QualityRow& row : rows) {
    absl::StrAppendFormat(&table, "%-7s %-12s %9d %10.2e %9d %9.2f %11.5f %+10.3f\n", row.format,
                          row.texts, row.positions, row.mean_kl, row.answer_positions,
                          100 * row.argmax_agreement, row.perplexity,
                          100 * row.perplexity_change());
  }
  return table;
}

std::string QualityJson(absl::Span<const QualityRow> rows) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const QualityRow& row : rows) {
    json.push_back({{"weights", row.format},
                    {"texts", row.texts},
                    {"positions", row.positions},
                    {"mean_kl", row.mean_kl},
                    {"answer_positions", row.answer_positions},
                    {"argmax_agreement", row.argmax_agreement},
                    {"f32_perplexity", row.f32_perplexity},
                    {"perplexity", row.perplexity},
                    {"perplexity_change", row.perplexity_change()}});
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sluice::bench
