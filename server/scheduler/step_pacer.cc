#include "scheduler/step_pacer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/model_runner.h"

namespace sluice::scheduler {
namespace {

static_assert(StepPacer::kLeastTokens == model::kKvBlockTokens);

// Steps with prompts from one of streams alone to the next.
constexpr int kMixedSteps = 16;
constexpr int kMixedStepsAtFirst = 4;

// How much one step can change the budget.
constexpr double kMostShrinking = 0.5;
constexpr double kMostGrowth = 1.5;

bool IsAbout(int a, int b) { return 3 * a <= 4 * b && 3 * b <= 4 * a; }

}  // namespace

StepPacer::StepPacer(std::optional<double> max_slowdown, int max_tokens)
    : max_slowdown_(max_slowdown),
      max_tokens_(max_tokens),
      least_tokens_(std::min(kLeastTokens, max_tokens)),
      num_mixed_(kMixedStepsAtFirst) {
  CHECK(max_tokens_ >= 1);
  CHECK(!max_slowdown_.has_value() || *max_slowdown_ > 1);
}

int StepPacer::PromptBudget(int num_streams) const {
  if (!max_slowdown_.has_value() || num_streams == 0) return max_tokens_;
  return static_cast<int>(Budget(AloneSeconds(num_streams)));
}

bool StepPacer::MustMeasure(int num_streams) const {
  if (!max_slowdown_.has_value() || num_streams == 0) return false;
  return num_mixed_ >= (Knows(num_streams) ? kMixedSteps : kMixedStepsAtFirst);
}

void StepPacer::Observe(const Step& step) {
  if (step.num_streams == 0) return;
  if (step.num_prompt_tokens == 0) {
    num_mixed_ = 0;
    if (step.seconds > 0) alone_[num_alone_++ % kNumAlone] = {step.num_streams, step.seconds};
    return;
  }
  ++num_mixed_;
  const double alone = AloneSeconds(step.num_streams);
  if (!max_slowdown_.has_value() || alone <= 0 || step.seconds <= 0) return;
  const double budget = Budget(alone);
  // A step that did not use its budget up does not show that there is room for more.
  const double most = step.num_prompt_tokens >= std::floor(budget) ? kMostGrowth : 1;
  const double change =
      std::clamp(std::sqrt(*max_slowdown_ * alone / step.seconds), kMostShrinking, most);
  const double rate = std::clamp<double>(budget * change, least_tokens_, max_tokens_) / alone;
  // With the least that a step may have, a step that took too long must not pass for a higher rate.
  tokens_per_alone_second_ = change > 1 ? rate : std::min(tokens_per_alone_second_, rate);
}

double StepPacer::Budget(double alone_seconds) const {
  return std::clamp<double>(tokens_per_alone_second_ * alone_seconds, least_tokens_, max_tokens_);
}

bool StepPacer::Knows(int num_streams) const {
  const auto is_about = [&](const Alone& a) { return IsAbout(a.num_streams, num_streams); };
  return 2 * std::count_if(alone_.begin(), alone_.end(), is_about) > kNumAlone;
}

// 0: nothing has been measured.
double StepPacer::AloneSeconds(int num_streams) const {
  std::array<double, kNumAlone> seconds{};
  const int size = static_cast<int>(std::min<int64_t>(num_alone_, kNumAlone));
  if (size == 0) return 0;
  for (int i = 0; i < size; ++i) {
    const double share = static_cast<double>(num_streams) / alone_[i].num_streams;
    seconds[i] = alone_[i].seconds * std::min(1.0, share);
  }
  // Of an even number the smaller one in the middle.
  const auto median = seconds.begin() + (size - 1) / 2;
  std::nth_element(seconds.begin(), median, seconds.begin() + size);
  return *median;
}

}  // namespace sluice::scheduler
