#include "cli/generation_flags.h"

#include <CLI/CLI.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sluice::cli {
namespace {

// Each of `pairs` is "id=bias".
void AddBiases(const std::vector<std::string>& pairs, std::map<int32_t, float>& biases) {
  for (const std::string& pair : pairs) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(pair, absl::MaxSplits('=', 1));
    int32_t id = 0;
    float bias = 0;
    if (!absl::SimpleAtoi(parts.first, &id) || !absl::SimpleAtof(parts.second, &bias)) {
      throw CLI::ValidationError("--logit_bias", absl::StrCat("\"", pair, "\" is not ID=BIAS"));
    }
    biases[id] = bias;
  }
}

}  // namespace

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
  app.add_option("--typical_p", flags.typical_p,
                 "Keep the tokens of the most typical probability up to this sum")
      ->group("Sampling");
  app.add_option("--repetition_penalty", flags.repetition_penalty,
                 "Make tokens of prompt and answer less probable (above 1)")
      ->group("Sampling");
  app.add_option("--presence_penalty", flags.presence_penalty,
                 "Take this off the logits of the answer's tokens")
      ->group("Sampling");
  app.add_option("--frequency_penalty", flags.frequency_penalty,
                 "The same for each time that the answer has them")
      ->group("Sampling");
  app.add_option_function<std::vector<std::string>>(
         "--logit_bias",
         [&flags](const std::vector<std::string>& pairs) { AddBiases(pairs, flags.logit_bias); },
         "Add to the logits of these token ids: 7=-100,8=1.5")
      ->type_name("ID=BIAS")
      ->delimiter(',')
      ->allow_extra_args(false)
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
  app.add_option("--min_tokens", flags.min_tokens, "Nothing stops the answer before this many")
      ->group("Stopping");
  app.add_flag("--include_stop", flags.include_stop, "Print what stopped the answer, too")
      ->group("Stopping");
  app.add_option("--priority", flags.priority, "Higher ones are served first")->group("Scheduling");
  app.add_flag("--bypass_prefix_cache", flags.bypass_prefix_cache, "Compute the whole prompt")
      ->group("Scheduling");
  app.add_option("--cache_salt", flags.cache_salt,
                 "Share the prefix cache with requests of the same salt only")
      ->group("Scheduling");
}

void AddRequestFlags(CLI::App& app, GenerationFlags& flags) {
  app.add_option("--request_id", flags.request_id, "Names the request in logs");
  app.add_option("--num_choices", flags.num_choices, "Generate this many answers")
      ->group("Response");
  app.add_flag("--echo", flags.echo, "Print the prompt first")->group("Response");
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
  if (num_choices.has_value()) request.set_num_choices(*num_choices);
  if (priority.has_value()) request.set_priority(*priority);
  if (bypass_prefix_cache) request.set_bypass_prefix_cache(true);
  if (cache_salt.has_value()) request.set_cache_salt(*cache_salt);

  v1::SamplingOptions& sampling = *request.mutable_sampling();
  if (temperature.has_value()) sampling.set_temperature(*temperature);
  if (top_k.has_value()) sampling.set_top_k(*top_k);
  if (top_p.has_value()) sampling.set_top_p(*top_p);
  if (min_p.has_value()) sampling.set_min_p(*min_p);
  if (typical_p.has_value()) sampling.set_typical_p(*typical_p);
  if (repetition_penalty.has_value()) sampling.set_repetition_penalty(*repetition_penalty);
  if (presence_penalty.has_value()) sampling.set_presence_penalty(*presence_penalty);
  if (frequency_penalty.has_value()) sampling.set_frequency_penalty(*frequency_penalty);
  sampling.mutable_logit_bias()->insert(logit_bias.begin(), logit_bias.end());
  if (seed.has_value()) sampling.set_seed(*seed);

  v1::StoppingOptions& stopping = *request.mutable_stopping();
  if (max_tokens.has_value()) stopping.set_max_tokens(*max_tokens);
  stopping.mutable_stop_token_ids()->Assign(stop_token_ids.begin(), stop_token_ids.end());
  stopping.mutable_stop_strings()->Assign(stop_strings.begin(), stop_strings.end());
  if (ignore_eos) stopping.set_ignore_eos(true);
  if (min_tokens.has_value()) stopping.set_min_tokens(*min_tokens);
  if (include_stop) stopping.set_include_stop(true);

  v1::ResponseOptions& response = *request.mutable_response();
  if (logprobs.has_value()) response.set_logprobs(*logprobs);
  if (prompt_logprobs.has_value()) response.set_prompt_logprobs(*prompt_logprobs);
  if (skip_special_tokens.has_value()) response.set_skip_special_tokens(*skip_special_tokens);
  if (echo) response.set_echo(true);
  return request;
}

}  // namespace sluice::cli
