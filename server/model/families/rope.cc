// Translates what config.json says of rotary position embedding.
//
// Files up to transformers 4 have rope_theta, and rope_scaling with the kind under rope_type or the
// older `type`. Those of transformers 5 have all in rope_parameters, where `type` may stand beside
// rope_type. A rope_scaling that is there comes first.
#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/families/common.h"

namespace sluice::model {
namespace {

// `factor` must be above zero whatever it multiplies or divides.
constexpr RealRange kPositive{.above_min = true};

absl::StatusOr<JsonObject> FindParameters(const JsonObject& in, const JsonObject& none) {
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    ASSIGN_OR_RETURN(const auto object, in.GetOptionalObject(field));
    if (object && !object->empty()) return *object;
  }
  return none;
}

// What cos and sin are multiplied by in YaRN (arXiv:2309.00071, eq. 22), with DeepSeek's two
// weights for it.
double YarnMagnitude(double factor, double weight) {
  return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
}

absl::StatusOr<double> TranslateAttentionFactor(const JsonObject& rope, double factor) {
  ASSIGN_OR_RETURN(const auto given, rope.GetOptionalReal("attention_factor", kPositive));
  ASSIGN_OR_RETURN(const auto mscale, rope.GetOptionalReal("mscale", {}));
  ASSIGN_OR_RETURN(const auto mscale_all_dim, rope.GetOptionalReal("mscale_all_dim", {}));
  if (given) return *given;
  // Zero counts as absent, here and for the betas.
  if (mscale.value_or(0) == 0 || mscale_all_dim.value_or(0) == 0) return YarnMagnitude(factor, 1);
  return YarnMagnitude(factor, *mscale) / YarnMagnitude(factor, *mscale_all_dim);
}

absl::StatusOr<double> TranslateBeta(const JsonObject& rope, const char* field, double fallback) {
  ASSIGN_OR_RETURN(const auto beta, rope.GetOptionalReal(field, {}));
  return beta.value_or(0) == 0 ? fallback : *beta;
}

// The field beside rope_scaling comes before the one in it.
absl::StatusOr<std::optional<int>> TranslateOriginalPositions(const JsonObject& in,
                                                              const JsonObject& rope) {
  constexpr char kField[] = "original_max_position_embeddings";
  const IntRange range{.max = kMaxPositions};
  ASSIGN_OR_RETURN(const auto outer, in.GetOptionalInt(kField, range));
  ASSIGN_OR_RETURN(const auto inner, rope.GetOptionalInt(kField, range));
  return outer ? outer : inner;
}

absl::Status TranslateLlama3(const JsonObject& rope, RopeConfig& config) {
  config.scaling = RopeConfig::Scaling::kLlama3;
  ASSIGN_OR_RETURN(config.factor, rope.GetReal("factor", kPositive));
  ASSIGN_OR_RETURN(config.low_freq_factor, rope.GetReal("low_freq_factor", kPositive));
  ASSIGN_OR_RETURN(config.high_freq_factor, rope.GetReal("high_freq_factor", kPositive));
  if (config.high_freq_factor < config.low_freq_factor) {
    return rope.Invalid("high_freq_factor",
                        absl::StrCat("at least low_freq_factor, ", config.low_freq_factor));
  }
  return absl::OkStatus();
}

absl::Status TranslateYarn(const JsonObject& rope, int max_positions, RopeConfig& config) {
  config.scaling = RopeConfig::Scaling::kYarn;
  ASSIGN_OR_RETURN(const auto factor, rope.GetOptionalReal("factor", kPositive));
  config.factor = factor ? *factor
                         : static_cast<double>(max_positions) /
                               static_cast<double>(config.original_max_positions);
  ASSIGN_OR_RETURN(config.attention_factor, TranslateAttentionFactor(rope, config.factor));
  ASSIGN_OR_RETURN(config.beta_fast, TranslateBeta(rope, "beta_fast", 32));
  ASSIGN_OR_RETURN(config.beta_slow, TranslateBeta(rope, "beta_slow", 1));
  if (config.beta_fast < config.beta_slow) {
    return rope.Invalid("beta_fast", absl::StrCat("at least beta_slow, ", config.beta_slow));
  }
  ASSIGN_OR_RETURN(config.truncate, rope.GetBool("truncate", true));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RopeConfig> TranslateRope(const JsonObject& in, double default_theta,
                                         int max_positions) {
  const Json nothing = Json::object();
  ASSIGN_OR_RETURN(const JsonObject rope, FindParameters(in, JsonObject(in.file(), nothing)));
  // One set of parameters per kind of layer, which the four families do not have.
  for (const char* field : {"full_attention", "sliding_attention"}) {
    if (rope.Has(field)) return rope.Unsupported(field);
  }
  ASSIGN_OR_RETURN(const double rotary,
                   rope.GetReal("partial_rotary_factor", {.fallback = 1.0, .max = 1}));
  if (rotary != 1) return rope.Unsupported("partial_rotary_factor");

  RopeConfig config;
  // YaRN divides by the logarithm of theta.
  const RealRange theta_range{.fallback = default_theta, .min = 2, .max = 1e15};
  ASSIGN_OR_RETURN(config.theta,
                   (rope.Has("rope_theta") ? rope : in).GetReal("rope_theta", theta_range));
  const char* kind_field = rope.Has("rope_type") ? "rope_type" : "type";
  ASSIGN_OR_RETURN(const auto kind, rope.GetOptionalString(kind_field));
  if (!kind || *kind == "default") return config;
  if (*kind == "linear") {
    config.scaling = RopeConfig::Scaling::kLinear;
    ASSIGN_OR_RETURN(config.factor, rope.GetReal("factor", kPositive));
    return config;
  }
  if (*kind != "llama3" && *kind != "yarn") return rope.Unsupported(kind_field);
  ASSIGN_OR_RETURN(const auto original, TranslateOriginalPositions(in, rope));
  config.original_max_positions = original.value_or(max_positions);
  RETURN_IF_ERROR(*kind == "llama3" ? TranslateLlama3(rope, config)
                                    : TranslateYarn(rope, max_positions, config));
  if (*kind == "yarn" && original) {
    config.stretched_positions =
        static_cast<int64_t>(std::min<double>(*original * config.factor, kMaxPositions));
  }
  return config;
}

}  // namespace sluice::model
