#include "cli/answer.h"

#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/clock.h"
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
    if (event.has_finished()) finished_ = event.finished();
  }

  std::string Text() const {
    const v1::Usage& usage = finished_.usage();
    std::string text =
        absl::StrCat("tokens: ", usage.prompt_tokens(), " prompt",
                     usage.cached_prompt_tokens() > 0
                         ? absl::StrCat(" (", usage.cached_prompt_tokens(), " from the cache)")
                         : "",
                     ", ", usage.generated_tokens(), " generated");
    if (first_token_ != absl::InfiniteFuture()) {
      absl::StrAppendFormat(&text, ", first after %.1f ms",
                            absl::ToDoubleMilliseconds(first_token_ - start_));
      const double seconds = absl::ToDoubleSeconds(last_token_ - first_token_);
      const int later_tokens = usage.generated_tokens() - first_tokens_;
      if (seconds > 0 && later_tokens > 0) {
        absl::StrAppendFormat(&text, ", then %.1f tokens/s", later_tokens / seconds);
      }
    }
    absl::StrAppend(&text, ", ended by ", Reason());
    return text;
  }

 private:
  std::string Reason() const {
    switch (finished_.matched_stop_case()) {
      case v1::Finished::kStopTokenId:
        return absl::StrCat("token ", finished_.stop_token_id());
      case v1::Finished::kStopString:
        return "a stop string";
      case v1::Finished::MATCHED_STOP_NOT_SET:
        break;
    }
    return finished_.reason() == v1::FINISH_REASON_LENGTH ? "its length" : "the model";
  }

  const base::Clock& clock_ = base::Clock::System();
  const absl::Time start_ = clock_.Now();
  absl::Time first_token_ = absl::InfiniteFuture();
  absl::Time last_token_;
  // Tokens that came with the first delta that had any.
  int first_tokens_ = 0;
  v1::Finished finished_;
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
  client::Cancellation cancellation;
  {
    const ScopedInterrupt interrupt(cancellation);
    client::CallOptions call = environment.LongCall(&cancellation);
    if (!format.quiet) call.retry.on_retry = SayRetry(environment.console.err);
    answer.status =
        environment.client.Generate(request, call, [&](const v1::GenerateResponse& event) {
          summary.Add(event);
          answer.text += event.delta().text();
          if (format.json) {
            out << Dump(ToJson(event)) << std::endl;
          } else if (!event.delta().text().empty()) {
            out << event.delta().text() << std::flush;
          }
        });
  }
  if (!format.json && (answer.status.ok() || !answer.text.empty())) out << std::endl;
  if (cancellation.cancelled() && !answer.status.ok()) {
    answer.status = absl::CancelledError("interrupted");
  }
  if (answer.status.ok() && !format.quiet) environment.console.err << summary.Text() << std::endl;
  return answer;
}

}  // namespace sluice::cli
