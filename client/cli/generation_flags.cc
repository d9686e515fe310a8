#include "cli/generation_flags.h"

#include <CLI/CLI.hpp>

namespace sluice::cli {

void AddSamplingFlags(CLI::App& app, GenerationFlags& flags) {
  app.add_option("--model", flags.model, "Fail unless this model is served");
  app.add_option("--temperature", flags.temperature, "0 is greedy")->group("Sampling");
  app.add_option("--top_k", flags.top_k, "Keep the k most probable tokens; 0 keeps all")
      ->group("Sampling");
  app.add_option("--top_p", flags.top_p, "Keep the most probable tokens up to this sum")
      ->group("Sampling");
  app.add_option("--min_p", flags.min_p,
                 "Keep tokens with this share of the best one's probability")
      ->group("Sampling");
  app.add_option("--seed", flags.seed, "Makes sampling repeatable")->group("Sampling");
  app.add_option("--max_tokens", flags.max_tokens, "Generate at most this many")->group("Stopping");
  app.add_option("--stop", flags.stop_strings, "Stop before this text; may be repeated")
      ->allow_extra_args(false)
      ->group("Stopping");
  app.add_option("--stop_token", flags.stop_token_ids, "Stop at these token ids: 1,2,3")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->group("Stopping");
  app.add_flag("--ignore_eos", flags.ignore_eos, "Go on after an end-of-sequence token")
      ->group("Stopping");
}

void AddRequestFlags(CLI::App& app, GenerationFlags& flags) {
  app.add_option("--request_id", flags.request_id, "Names the request in logs");
  app.add_option("--logprobs", flags.logprobs,
                 "Report log-probabilities and this many alternatives; needs --json")
      ->group("Response");
  app.add_option("--prompt_logprobs", flags.prompt_logprobs,
                 "The same for the prompt; needs --json")
      ->group("Response");
  app.add_option("--add_special_tokens", flags.add_special_tokens,
                 "Let the tokenizer add its special tokens to the prompt")
      ->type_name("BOOL")
      ->group("Response");
  app.add_option("--skip_special_tokens", flags.skip_special_tokens,
                 "Leave special tokens out of the text")
      ->type_name("BOOL")
      ->group("Response");
}

v1::GenerateRequest GenerationFlags::ToRequest() const {
  v1::GenerateRequest request;
  if (model.has_value()) request.set_model(*model);
  if (request_id.has_value()) request.set_request_id(*request_id);
  if (add_special_tokens.has_value()) request.set_add_special_tokens(*add_special_tokens);

  v1::SamplingOptions& sampling = *request.mutable_sampling();
  if (temperature.has_value()) sampling.set_temperature(*temperature);
  if (top_k.has_value()) sampling.set_top_k(*top_k);
  if (top_p.has_value()) sampling.set_top_p(*top_p);
  if (min_p.has_value()) sampling.set_min_p(*min_p);
  if (seed.has_value()) sampling.set_seed(*seed);

  v1::StoppingOptions& stopping = *request.mutable_stopping();
  if (max_tokens.has_value()) stopping.set_max_tokens(*max_tokens);
  stopping.mutable_stop_token_ids()->Assign(stop_token_ids.begin(), stop_token_ids.end());
  stopping.mutable_stop_strings()->Assign(stop_strings.begin(), stop_strings.end());
  if (ignore_eos) stopping.set_ignore_eos(true);

  v1::ResponseOptions& response = *request.mutable_response();
  if (logprobs.has_value()) response.set_logprobs(*logprobs);
  if (prompt_logprobs.has_value()) response.set_prompt_logprobs(*prompt_logprobs);
  if (skip_special_tokens.has_value()) response.set_skip_special_tokens(*skip_special_tokens);
  return request;
}

}  // namespace sluice::cli
