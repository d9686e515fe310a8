// Answer: turns what the engine says about one request into what its client is told: token ids into
// text, stop strings into the end, and everything that is there at once into one delta.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "api/stop_matcher.h"
#include "base/token.h"
#include "scheduler/token_stream.h"
#include "sluice/v1/generation.pb.h"
#include "tokenizer/tokenizer.h"

namespace sluice::api {

// Tokens (of an answer or, with their log-probabilities, of a prompt) that one message holds at
// most: with 20 log-probabilities each about half a megabyte, well below the 4 MiB that gRPC
// clients accept by default.
inline constexpr size_t kMaxMessageTokens = 1024;

// Not thread-safe; belongs to one call.
class Answer {
 public:
  struct Options {
    std::string request_id;
    int prompt_tokens = 0;
    // Sorted.
    std::vector<TokenId> stop_token_ids;
    std::vector<std::string> stop_strings;
    bool skip_special_tokens = true;
  };

  // `tokenizer` must outlive this.
  Answer(const tokenizer::Tokenizer& tokenizer, Options options);

  // The messages that `events` make, in order. Nothing comes after the end.
  std::vector<v1::GenerateResponse> Consume(std::vector<scheduler::StreamEvent> events);

  // How the answer ended: OK when the last message was `finished`, otherwise why it failed. Absent
  // while it goes on.
  const std::optional<absl::Status>& end() const { return end_; }
  // Why it ended, if end() is OK.
  v1::FinishReason reason() const { return reason_; }
  // Whether the engine has nothing more to say. It has when a stop string ended the answer: then
  // the request has to be cancelled there.
  bool engine_done() const { return engine_done_; }
  int generated_tokens() const { return generated_tokens_; }

 private:
  using Messages = std::vector<v1::GenerateResponse>;

  void On(const scheduler::StartedEvent& event, Messages& messages);
  void On(const scheduler::PromptLogprobsEvent& event, Messages& messages);
  void On(const scheduler::TokenEvent& event, Messages& messages);
  void On(const scheduler::FinishedEvent& event, Messages& messages);
  void On(const scheduler::FailedEvent& event, Messages& messages);

  bool IsStopToken(TokenId id) const;
  // The delta at the end of `messages`; a new one if there is none or it is full.
  v1::Delta& OpenDelta(Messages& messages) const;
  // Puts text through the stop matcher and into the delta; ends the answer if a stop string
  // completes.
  void AddText(const std::string& text, Messages& messages);
  void Finish(v1::Finished finished, Messages& messages);
  void Fill(const model::TokenLogprob& logprob, v1::TokenLogprob& wire) const;

  const tokenizer::Tokenizer& tokenizer_;
  const Options options_;
  tokenizer::IncrementalDetokenizer detokenizer_;
  StopMatcher matcher_;
  int cached_prompt_tokens_ = 0;
  int generated_tokens_ = 0;
  TokenId last_token_ = 0;
  v1::FinishReason reason_ = v1::FINISH_REASON_UNSPECIFIED;
  bool engine_done_ = false;
  std::optional<absl::Status> end_;
};

}  // namespace sluice::api
