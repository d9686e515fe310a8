// Answer: turns what the engine says about one request into what its client is told: token ids into
// text, stop strings into ends, and everything of a choice that is there at once into one delta.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
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
// Bytes of an echoed prompt that one message holds at most.
inline constexpr size_t kMaxEchoBytes = 256 * 1024;

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
    int num_choices = 1;
    // Stop strings do not end a choice with one of its first min_tokens tokens.
    int min_tokens = 0;
    // Whether what ended a choice stays in its text.
    bool include_stop = false;
    // What the text of each choice takes from the prompt.
    tokenizer::DecodeContext context;
    // What the text of each choice begins with: the prompt's.
    std::string echo;
  };

  // `tokenizer` must outlive this. Stop strings are not looked for in the prompt's text.
  Answer(const tokenizer::Tokenizer& tokenizer, Options options);

  // The messages that `events` make: of each choice in order, and nothing after its end.
  std::vector<v1::GenerateResponse> Consume(std::vector<scheduler::StreamEvent> events);

  // How the answer ended: OK when every choice is finished, otherwise why it failed. Absent while
  // it goes on.
  const std::optional<absl::Status>& end() const { return end_; }
  // Why the last choice ended, if end() is OK.
  v1::FinishReason reason() const { return reason_; }
  // Whether the engine has nothing more to say. It has when a stop string ended the last choice:
  // then the request has to be cancelled there.
  bool engine_done() const { return engine_done_; }
  // Choices that a stop string ended since the last time, while the engine goes on with them and
  // with others: these have to be cancelled there one by one, and count as done from here on.
  std::vector<int> TakeStopped();

  // Tokens of all choices.
  int generated_tokens() const;

 private:
  using Messages = std::vector<v1::GenerateResponse>;

  struct Choice {
    tokenizer::IncrementalDetokenizer detokenizer;
    StopMatcher matcher;
    int generated_tokens = 0;
    TokenId last_token = 0;
    // Its text has begun.
    bool begun = false;
    // `finished` is among its messages.
    bool finished = false;
    // The engine has nothing more to say about it.
    bool engine_done = false;
    // Where among the messages of this Consume its last delta is.
    std::optional<size_t> open_delta;
  };

  void On(const scheduler::StartedEvent& event, Messages& messages);
  void On(const scheduler::PromptLogprobsEvent& event, Messages& messages);
  void On(const scheduler::TokenEvent& event, Messages& messages);
  void On(const scheduler::FinishedEvent& event, Messages& messages);
  void On(const scheduler::FailedEvent& event, Messages& messages);

  bool IsStopToken(TokenId id) const;
  int NumberOf(const Choice& choice) const { return static_cast<int>(&choice - choices_.data()); }
  // The choice's last delta; a new one if there is none or it is full.
  v1::Delta& OpenDelta(Choice& choice, Messages& messages) const;
  // Puts the echo in front of everything else.
  void Begin(Choice& choice, Messages& messages) const;
  // Adds text of the prompt.
  void AddEcho(Choice& choice, absl::string_view text, Messages& messages) const;
  // Puts text through the stop matcher and into the delta; finishes the choice if a stop string
  // completes.
  void AddText(Choice& choice, const std::string& text, Messages& messages);
  void Finish(Choice& choice, v1::Finished finished, Messages& messages);
  void NoteEngineDone(Choice& choice);
  void Fill(const model::TokenLogprob& logprob, v1::TokenLogprob& wire) const;

  const tokenizer::Tokenizer& tokenizer_;
  const Options options_;
  // If Options::echo ends with the prompt's open text, then that is left out of it at first: the
  // answer's tokens decide what becomes of it.
  const bool echoes_open_text_;
  std::vector<Choice> choices_;
  int num_finished_ = 0;
  int cached_prompt_tokens_ = 0;
  std::vector<int> stopped_;
  v1::FinishReason reason_ = v1::FINISH_REASON_UNSPECIFIED;
  bool engine_done_ = false;
  std::optional<absl::Status> end_;
};

}  // namespace sluice::api
