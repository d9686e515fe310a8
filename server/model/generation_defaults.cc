#include "model/generation_defaults.h"

#include <vector>

#include "base/status_macros.h"

namespace sluice::model {
namespace {

constexpr char kEos[] = "eos_token_id";
constexpr IntRange kTokenRange{.min = 0};

// One id or a list of them.
absl::StatusOr<std::vector<TokenId>> GetEos(const JsonObject& in) {
  const Json* value = in.Find(kEos);
  if (value->is_array()) {
    return in.GetInts(kEos, kTokenRange);
  }
  ASSIGN_OR_RETURN(const int id, in.GetInt(kEos, kTokenRange));
  return std::vector<TokenId>{id};
}

absl::StatusOr<std::optional<float>> GetOptionalFloat(const JsonObject& in, const char* field,
                                                      const RealRange& range) {
  ASSIGN_OR_RETURN(const auto value, in.GetOptionalReal(field, range));
  if (!value) return std::nullopt;
  return static_cast<float>(*value);
}

}  // namespace

absl::StatusOr<GenerationDefaults> TranslateGenerationDefaults(const JsonObject& config,
                                                               const JsonObject* generation,
                                                               std::optional<TokenId> default_eos) {
  GenerationDefaults defaults;
  if (generation != nullptr && generation->Has(kEos)) {
    ASSIGN_OR_RETURN(defaults.eos_token_ids, GetEos(*generation));
  } else if (config.Has(kEos)) {
    ASSIGN_OR_RETURN(defaults.eos_token_ids, GetEos(config));
  } else if (config.Find(kEos) == nullptr && default_eos) {
    defaults.eos_token_ids = {*default_eos};
  }
  if (generation == nullptr) return defaults;
  const JsonObject& in = *generation;
  ASSIGN_OR_RETURN(defaults.do_sample, in.GetBool("do_sample", false));
  ASSIGN_OR_RETURN(defaults.temperature, GetOptionalFloat(in, "temperature", {}));
  ASSIGN_OR_RETURN(defaults.top_k, in.GetOptionalInt("top_k", {.min = 0}));
  ASSIGN_OR_RETURN(defaults.top_p, GetOptionalFloat(in, "top_p", {.max = 1, .above_min = true}));
  ASSIGN_OR_RETURN(defaults.min_p, GetOptionalFloat(in, "min_p", {.max = 1}));
  ASSIGN_OR_RETURN(defaults.typical_p,
                   GetOptionalFloat(in, "typical_p", {.max = 1, .above_min = true}));
  ASSIGN_OR_RETURN(defaults.repetition_penalty,
                   GetOptionalFloat(in, "repetition_penalty", {.above_min = true}));
  ASSIGN_OR_RETURN(defaults.max_new_tokens, in.GetOptionalInt("max_new_tokens", {}));
  return defaults;
}

}  // namespace sluice::model
