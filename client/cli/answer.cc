#include "cli/answer.h"

#include <algorithm>
#include <ostream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "cli/choice_printer.h"
#include "cli/interrupt.h"
#include "cli/json.h"

namespace sluice::cli {
namespace {

// Watches an answer go by and says afterwards what it cost.
class Summary {
 public:
  void Add(const v1::GenerateResponse& event) {
    if (event.has_delta() && event.delta().token_ids_size() > 0) {
      const absl::Time now = clock_.Now();
      if (first_token_ == absl::InfiniteFuture()) {
        first_token_ = now;
        first_tokens_ = event.delta().token_ids_size();
      }
      last_token_ = now;
    }
    if (event.has_finished()) finished_.push_back(event.finished());
  }

  std::string Text() {
    std::sort(finished_.begin(), finished_.end(),
              [](const auto& a, const auto& b) { return a.choice() < b.choice(); });
    int generated_tokens = 0;
    std::vector<std::string> reasons;
    for (const v1::Finished& finished : finished_) {
      generated_tokens += finished.usage().generated_tokens();
      reasons.push_back(Reason(finished));
    }
    const v1::Usage prompt = finished_.empty() ? v1::Usage() : finished_[0].usage();
    std::string text =
        absl::StrCat("tokens: ", prompt.prompt_tokens(), " prompt",
                     prompt.cached_prompt_tokens() > 0
                         ? absl::StrCat(" (", prompt.cached_prompt_tokens(), " from the cache)")
                         : "",
                     ", ", generated_tokens, " generated");
    if (finished_.size() > 1) absl::StrAppend(&text, " in ", finished_.size(), " choices");
    if (first_token_ != absl::InfiniteFuture()) {
      absl::StrAppendFormat(&text, ", first after %.1f ms",
                            absl::ToDoubleMilliseconds(first_token_ - start_));
      const double seconds = absl::ToDoubleSeconds(last_token_ - first_token_);
      const int later_tokens = generated_tokens - first_tokens_;
      if (seconds > 0 && later_tokens > 0) {
        absl::StrAppendFormat(&text, ", then %.1f tokens/s", later_tokens / seconds);
      }
    }
    absl::StrAppend(&text, ", ended by ", absl::StrJoin(reasons, ", "));
    return text;
  }

 private:
  static std::string Reason(const v1::Finished& finished) {
    switch (finished.matched_stop_case()) {
      case v1::Finished::kStopTokenId:
        return absl::StrCat("token ", finished.stop_token_id());
      case v1::Finished::kStopString:
        return "a stop string";
      case v1::Finished::MATCHED_STOP_NOT_SET:
        break;
    }
    return finished.reason() == v1::FINISH_REASON_LENGTH ? "its length" : "the model";
  }

  const base::Clock& clock_ = base::Clock::System();
  const absl::Time start_ = clock_.Now();
  absl::Time first_token_ = absl::InfiniteFuture();
  absl::Time last_token_;
  // Tokens that came with the first delta that had any.
  int first_tokens_ = 0;
  // Of each choice.
  std::vector<v1::Finished> finished_;
};

// Whoever waits should know what for.
std::function<void(const client::Retry&)> SayRetry(std::ostream& err) {
  return [&err](const client::Retry& retry) {
    err << absl::StrFormat("sluice: %s; trying again in %.1f s",
                           absl::StatusCodeToString(retry.status.code()),
                           absl::ToDoubleSeconds(retry.delay))
        << std::endl;
  };
}

}  // namespace

Answer StreamAnswer(const Environment& environment, const v1::GenerateRequest& request,
                    const AnswerFormat& format) {
  std::ostream& out = environment.console.out;
  Answer answer;
  Summary summary;
  ChoicePrinter printer(request.num_choices(), out);
  client::Cancellation cancellation;
  {
    const ScopedInterrupt interrupt(cancellation);
    client::CallOptions call = environment.LongCall(&cancellation);
    if (!format.quiet) call.retry.on_retry = SayRetry(environment.console.err);
    answer.status =
        environment.client.Generate(request, call, [&](const v1::GenerateResponse& event) {
          summary.Add(event);
          if (event.delta().choice() == 0) answer.text += event.delta().text();
          if (format.json) {
            out << Dump(ToJson(event)) << std::endl;
          } else {
            printer.Add(event);
          }
        });
  }
  if (!format.json) printer.Finish(answer.status.ok());
  if (cancellation.cancelled() && !answer.status.ok()) {
    answer.status = absl::CancelledError("interrupted");
  }
  if (answer.status.ok() && !format.quiet) environment.console.err << summary.Text() << std::endl;
  return answer;
}

}  // namespace sluice::cli
