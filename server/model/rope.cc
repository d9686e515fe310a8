#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace sluice::model {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

// theta^(2i / head_dim), rounded to f32 like the quotient and the power are elsewhere.
std::vector<float> Periods(const RopeConfig& config, int head_dim) {
  std::vector<float> periods(head_dim / 2);
  for (int i = 0; i < head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    periods[i] = static_cast<float>(std::pow(config.theta, double{exponent}));
  }
  return periods;
}

// Llama 3.1's model card: long wavelengths are divided by the factor, short ones kept, those
// between interpolated.
float ScaleLlama3(const RopeConfig& config, float frequency) {
  const float original = static_cast<float>(config.original_max_positions);
  const float low = static_cast<float>(config.low_freq_factor);
  const float high = static_cast<float>(config.high_freq_factor);
  const float factor = static_cast<float>(config.factor);
  const float wavelength = static_cast<float>(kTwoPi) / frequency;
  if (wavelength > original / low) return frequency / factor;
  if (wavelength < original / high || high == low) return frequency;
  const float smooth = (original / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

// YaRN's "NTK by parts" (arXiv:2309.00071, section 3.2): pairs that turn often within the original
// context keep their frequency, pairs that turn rarely are slowed down by the factor.
std::vector<float> YarnInverseFrequencies(const RopeConfig& config, int head_dim) {
  // The pair, as a real number, that makes so many turns within the original context.
  const auto pair_with_turns = [&](double turns) {
    return head_dim *
           std::log(static_cast<double>(config.original_max_positions) / (turns * kTwoPi)) /
           (2 * std::log(config.theta));
  };
  double low = pair_with_turns(config.beta_fast);
  double high = pair_with_turns(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;

  std::vector<float> frequencies = Periods(config, head_dim);
  for (int i = 0; i < head_dim / 2; ++i) {
    const float period = frequencies[i];
    const float ramp = std::clamp(
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f,
        1.0f);
    const float kept = 1 - ramp;
    frequencies[i] =
        1 / (static_cast<float>(config.factor) * period) * (1 - kept) + 1 / period * kept;
  }
  return frequencies;
}

}  // namespace

std::vector<float> RopeInverseFrequencies(const RopeConfig& config, int head_dim) {
  if (config.scaling == RopeConfig::Scaling::kYarn) return YarnInverseFrequencies(config, head_dim);
  std::vector<float> frequencies = Periods(config, head_dim);
  for (float& frequency : frequencies) {
    frequency = 1 / frequency;
    if (config.scaling == RopeConfig::Scaling::kLinear) {
      frequency /= static_cast<float>(config.factor);
    } else if (config.scaling == RopeConfig::Scaling::kLlama3) {
      frequency = ScaleLlama3(config, frequency);
    }
  }
  return frequencies;
}

absl::StatusOr<RopeTable> RopeTable::Create(const RopeConfig& config, int head_dim,
                                            int64_t max_positions) {
  CHECK(head_dim % 2 == 0 && max_positions > 0);
  ASSIGN_OR_RETURN(
      base::MappedMemory memory,
      base::MappedMemory::Reserve(max_positions * head_dim * static_cast<int64_t>(sizeof(float))));
  const bool yarn = config.scaling == RopeConfig::Scaling::kYarn;
  return RopeTable(RopeInverseFrequencies(config, head_dim),
                   yarn ? static_cast<float>(config.attention_factor) : 1.0f, max_positions,
                   std::move(memory));
}

RopeTable::RopeTable(std::vector<float> inverse_frequencies, float factor, int64_t max_positions,
                     base::MappedMemory memory)
    : inverse_frequencies_(std::move(inverse_frequencies)),
      factor_(factor),
      half_(static_cast<int64_t>(inverse_frequencies_.size())),
      max_positions_(max_positions),
      memory_(std::move(memory)),
      table_(reinterpret_cast<float*>(memory_.data())) {}

void RopeTable::Extend(int64_t end) {
  CHECK(end <= max_positions_);
  for (; ready_ < end; ++ready_) {
    float* cos = table_ + ready_ * 2 * half_;
    for (int64_t i = 0; i < half_; ++i) {
      // The angle is rounded to f32 before its cosine is taken, as in the published
      // implementations.
      const float angle = static_cast<float>(ready_) * inverse_frequencies_[i];
      cos[i] = static_cast<float>(std::cos(double{angle})) * factor_;
      cos[half_ + i] = static_cast<float>(std::sin(double{angle})) * factor_;
    }
  }
}

}  // namespace sluice::model
