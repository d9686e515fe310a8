// StepPacer: how many prompt tokens a step may have beside the streams that are generating, so that
// it takes them at most so many times as long as it would without.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace sluice::scheduler {

// Learns from the times of steps; has no clock. Not thread-safe.
//
// What streams alone take is the median of the last five steps that they had for themselves. One
// with more streams takes longer, one with fewer not less than its share: so a time counts in full
// for more streams than it was measured with, and in proportion for fewer, which errs towards too
// little. Where prompts never pause, they are left aside for one step in 17 (in 5, until a step
// with about as many streams has been measured three times): with a slowdown of 2.2 that costs them
// 1 / (16 * 2.2 + 1) = 2.8 % of their speed.
//
// What prompt tokens add depends on far more than their number: how many experts they reach that
// the streams do not, which kernels serve so many rows, how long the contexts are. So nothing of it
// is modelled; each step corrects the budget by the square root of the time it should have taken by
// the time it took, up to half as much more and down to a half.
class StepPacer {
 public:
  // A KV block. So many prompt tokens a step may always have, however long they take: prompts get
  // on, and the experts' weights, most of which even a few tokens need, are not read for nothing.
  static constexpr int kLeastTokens = 16;

  // `max_slowdown`: how many times as long as without prompts a step may take, above 1; nullopt: no
  // matter. `max_tokens`: of a step, at least 1.
  StepPacer(std::optional<double> max_slowdown, int max_tokens);

  // A step beside so many streams may have so many prompt tokens; without streams as many as any
  // step. As long as nothing has been measured, kLeastTokens.
  int PromptBudget(int num_streams) const;

  // A step with so many streams should leave prompts aside, so that its time can be measured.
  bool MustMeasure(int num_streams) const;

  struct Step {
    int num_streams = 0;
    int num_prompt_tokens = 0;
    double seconds = 0;
  };
  // A step is over. Times that are not above 0 (the clock was set back) teach nothing.
  void Observe(const Step& step);

 private:
  static constexpr int kNumAlone = 5;

  // A step of streams alone.
  struct Alone {
    int num_streams = 0;
    double seconds = 0;
  };

  bool Knows(int num_streams) const;
  double AloneSeconds(int num_streams) const;
  double Budget(double alone_seconds) const;

  const std::optional<double> max_slowdown_;
  const int max_tokens_;
  const int least_tokens_;
  std::array<Alone, kNumAlone> alone_;
  int64_t num_alone_ = 0;  // since the beginning; the last of them are in alone_
  // Steps of streams and prompts since the last of streams alone.
  int num_mixed_;
  // The budget by the time that streams alone take: when that changes, as streams come and go, the
  // budget follows at once.
  double tokens_per_alone_second_ = 0;
};

}  // namespace sluice::scheduler
