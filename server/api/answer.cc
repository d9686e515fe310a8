#include "api/answer.h"

#include <utility>
#include <variant>

#include "absl/algorithm/container.h"
#include "api/detokenizing.h"

namespace sluice::api {

Answer::Answer(const tokenizer::Tokenizer& tokenizer, Options options)
    : tokenizer_(tokenizer),
      options_(std::move(options)),
      detokenizer_(tokenizer, {options_.skip_special_tokens}),
      matcher_(options_.stop_strings) {}

std::vector<v1::GenerateResponse> Answer::Consume(std::vector<scheduler::StreamEvent> events) {
  Messages messages;
  for (const scheduler::StreamEvent& event : events) {
    engine_done_ = engine_done_ || std::holds_alternative<scheduler::FinishedEvent>(event) ||
                   std::holds_alternative<scheduler::FailedEvent>(event);
    if (!end_) std::visit([&](const auto& e) { On(e, messages); }, event);
  }
  return messages;
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
  ++generated_tokens_;
  last_token_ = event.token;
  v1::Delta& delta = OpenDelta(messages);
  delta.add_token_ids(event.token);
  if (event.logprob) Fill(*event.logprob, *delta.add_logprobs());
  if (IsStopToken(event.token) || event.token >= tokenizer_.vocab_size()) return;
  AddText(detokenizer_.Append(event.token), messages);
}

void Answer::On(const scheduler::FinishedEvent& event, Messages& messages) {
  AddText(detokenizer_.Flush(), messages);
  if (end_) return;
  const std::string rest = matcher_.Flush();
  if (!rest.empty()) OpenDelta(messages).mutable_text()->append(rest);
  v1::Finished finished;
  if (event.reason == scheduler::FinishReason::kStopToken) {
    finished.set_reason(v1::FINISH_REASON_STOP);
    finished.set_stop_token_id(last_token_);
  } else {
    finished.set_reason(v1::FINISH_REASON_LENGTH);
  }
  Finish(std::move(finished), messages);
}

void Answer::On(const scheduler::FailedEvent& event, Messages&) { end_ = event.status; }

bool Answer::IsStopToken(TokenId id) const {
  return absl::c_binary_search(options_.stop_token_ids, id);
}

v1::Delta& Answer::OpenDelta(Messages& messages) const {
  if (messages.empty() || !messages.back().has_delta() ||
      static_cast<size_t>(messages.back().delta().token_ids_size()) == kMaxMessageTokens) {
    messages.emplace_back().mutable_delta();
  }
  return *messages.back().mutable_delta();
}

void Answer::AddText(const std::string& text, Messages& messages) {
  StopMatcher::Result result = matcher_.Append(text);
  if (!result.text.empty()) OpenDelta(messages).mutable_text()->append(result.text);
  if (!result.match) return;
  v1::Finished finished;
  finished.set_reason(v1::FINISH_REASON_STOP);
  finished.set_stop_string(options_.stop_strings[*result.match]);
  Finish(std::move(finished), messages);
}

void Answer::Finish(v1::Finished finished, Messages& messages) {
  v1::Usage& usage = *finished.mutable_usage();
  usage.set_prompt_tokens(options_.prompt_tokens);
  usage.set_cached_prompt_tokens(cached_prompt_tokens_);
  usage.set_generated_tokens(generated_tokens_);
  reason_ = finished.reason();
  *messages.emplace_back().mutable_finished() = std::move(finished);
  end_ = absl::OkStatus();
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
