#include "api/answer.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <variant>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "api/detokenizing.h"
#include "base/check.h"

namespace sluice::api {
namespace {

// How many bytes of `text`, all of whose characters are whole, are whole characters and at most
// `max`.
size_t WholeCharacters(absl::string_view text, size_t max) {
  if (text.size() <= max) return text.size();
  while (max > 0 && (static_cast<uint8_t>(text[max]) & 0xC0) == 0x80) --max;
  return max;
}

}  // namespace

Answer::Answer(const tokenizer::Tokenizer& tokenizer, Options options)
    : tokenizer_(tokenizer),
      options_(std::move(options)),
      echoes_open_text_(absl::EndsWith(options_.echo, options_.context.open_text)) {
  choices_.reserve(options_.num_choices);
  for (int i = 0; i < options_.num_choices; ++i) {
    choices_.push_back({.detokenizer = tokenizer::IncrementalDetokenizer(
                            tokenizer, {options_.skip_special_tokens}, options_.context),
                        .matcher = StopMatcher(options_.stop_strings, options_.include_stop)});
  }
}

std::vector<v1::GenerateResponse> Answer::Consume(std::vector<scheduler::StreamEvent> events) {
  Messages messages;
  for (Choice& choice : choices_) choice.open_delta.reset();
  for (const scheduler::StreamEvent& event : events) {
    std::visit([&](const auto& e) { On(e, messages); }, event);
  }
  // What the engine has ended by itself meanwhile needs no other end.
  stopped_.erase(std::remove_if(stopped_.begin(), stopped_.end(),
                                [this](int i) { return end_ || choices_[i].engine_done; }),
                 stopped_.end());
  return messages;
}

std::vector<int> Answer::TakeStopped() {
  for (const int i : stopped_) NoteEngineDone(choices_[i]);
  return std::exchange(stopped_, {});
}

int Answer::generated_tokens() const {
  int sum = 0;
  for (const Choice& choice : choices_) sum += choice.generated_tokens;
  return sum;
}

void Answer::On(const scheduler::StartedEvent& event, Messages& messages) {
  cached_prompt_tokens_ = event.cached_prompt_tokens;
  v1::Started& started = *messages.emplace_back().mutable_started();
  started.set_request_id(options_.request_id);
  started.set_prompt_tokens(options_.prompt_tokens);
  started.set_cached_prompt_tokens(cached_prompt_tokens_);
}

void Answer::On(const scheduler::PromptLogprobsEvent& event, Messages& messages) {
  v1::PromptLogprobs* part = messages.emplace_back().mutable_prompt_logprobs();
  for (const model::TokenLogprob& logprob : event.logprobs) {
    if (static_cast<size_t>(part->logprobs_size()) == kMaxMessageTokens) {
      part = messages.emplace_back().mutable_prompt_logprobs();
    }
    Fill(logprob, *part->add_logprobs());
  }
}

void Answer::On(const scheduler::TokenEvent& event, Messages& messages) {
  DCHECK(event.choice >= 0 && event.choice < options_.num_choices);
  Choice& choice = choices_[event.choice];
  if (choice.finished) return;
  ++choice.generated_tokens;
  choice.last_token = event.token;
  Begin(choice, messages);
  v1::Delta& delta = OpenDelta(choice, messages);
  delta.add_token_ids(event.token);
  if (event.logprob) Fill(*event.logprob, *delta.add_logprobs());
  if (IsStopToken(event.token) && !options_.include_stop) return;
  if (event.token >= tokenizer_.vocab_size()) return;
  AddText(choice, choice.detokenizer.Append(event.token), messages);
}

void Answer::On(const scheduler::FinishedEvent& event, Messages& messages) {
  DCHECK(event.choice >= 0 && event.choice < options_.num_choices);
  Choice& choice = choices_[event.choice];
  NoteEngineDone(choice);
  if (choice.finished) return;
  AddText(choice, choice.detokenizer.Flush(), messages);
  if (choice.finished) return;
  const std::string rest = choice.matcher.Flush();
  if (!rest.empty()) OpenDelta(choice, messages).mutable_text()->append(rest);
  v1::Finished finished;
  if (event.reason == scheduler::FinishReason::kStopToken) {
    finished.set_reason(v1::FINISH_REASON_STOP);
    finished.set_stop_token_id(choice.last_token);
  } else {
    finished.set_reason(v1::FINISH_REASON_LENGTH);
  }
  Finish(choice, std::move(finished), messages);
}

void Answer::On(const scheduler::FailedEvent& event, Messages&) {
  engine_done_ = true;
  if (!end_) end_ = event.status;
}

bool Answer::IsStopToken(TokenId id) const {
  return absl::c_binary_search(options_.stop_token_ids, id);
}

v1::Delta& Answer::OpenDelta(Choice& choice, Messages& messages) const {
  const auto is_full = [](const v1::Delta& delta) {
    return static_cast<size_t>(delta.token_ids_size()) == kMaxMessageTokens ||
           delta.text().size() >= kMaxEchoBytes;
  };
  if (!choice.open_delta || is_full(messages[*choice.open_delta].delta())) {
    choice.open_delta = messages.size();
    messages.emplace_back().mutable_delta()->set_choice(NumberOf(choice));
  }
  return *messages[*choice.open_delta].mutable_delta();
}

void Answer::Begin(Choice& choice, Messages& messages) const {
  if (std::exchange(choice.begun, true)) return;
  absl::string_view echo = options_.echo;
  if (echoes_open_text_) echo.remove_suffix(options_.context.open_text.size());
  AddEcho(choice, echo, messages);
}

void Answer::AddEcho(Choice& choice, absl::string_view text, Messages& messages) const {
  while (!text.empty()) {
    std::string& delta = *OpenDelta(choice, messages).mutable_text();
    const size_t size = WholeCharacters(text, kMaxEchoBytes - delta.size());
    delta.append(text.data(), size);
    text.remove_prefix(size);
    // A part that was cut at a character's end may leave some bytes free.
    if (!text.empty()) choice.open_delta.reset();
  }
}

void Answer::AddText(Choice& choice, const std::string& text, Messages& messages) {
  const std::string open_text = choice.detokenizer.TakeOpenText();
  if (echoes_open_text_) AddEcho(choice, open_text, messages);
  const bool may_end = choice.generated_tokens > options_.min_tokens;
  StopMatcher::Result result = choice.matcher.Append(text, may_end);
  if (!result.text.empty()) OpenDelta(choice, messages).mutable_text()->append(result.text);
  if (!result.match) return;
  v1::Finished finished;
  finished.set_reason(v1::FINISH_REASON_STOP);
  finished.set_stop_string(options_.stop_strings[*result.match]);
  stopped_.push_back(NumberOf(choice));
  Finish(choice, std::move(finished), messages);
}

void Answer::Finish(Choice& choice, v1::Finished finished, Messages& messages) {
  finished.set_choice(NumberOf(choice));
  v1::Usage& usage = *finished.mutable_usage();
  usage.set_prompt_tokens(options_.prompt_tokens);
  usage.set_cached_prompt_tokens(cached_prompt_tokens_);
  usage.set_generated_tokens(choice.generated_tokens);
  reason_ = finished.reason();
  choice.finished = true;
  *messages.emplace_back().mutable_finished() = std::move(finished);
  if (++num_finished_ == options_.num_choices) end_ = absl::OkStatus();
}

void Answer::NoteEngineDone(Choice& choice) {
  choice.engine_done = true;
  engine_done_ = absl::c_all_of(choices_, [](const Choice& c) { return c.engine_done; });
}

void Answer::Fill(const model::TokenLogprob& logprob, v1::TokenLogprob& wire) const {
  wire.set_token_id(logprob.token);
  wire.set_text(TokenText(tokenizer_, logprob.token));
  wire.set_logprob(logprob.logprob);
  for (const auto& [token, value] : logprob.top) {
    v1::TokenLogprob& top = *wire.add_top();
    top.set_token_id(token);
    top.set_text(TokenText(tokenizer_, token));
    top.set_logprob(value);
  }
}

}  // namespace sluice::api
