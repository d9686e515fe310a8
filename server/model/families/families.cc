#include "model/families/families.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace sluice::model {

absl::Span<const Family* const> Families() {
  static constexpr const Family* kFamilies[] = {&kMixtral, &kQwen3Moe, &kOlmoe, &kQwen2Moe};
  return kFamilies;
}

absl::StatusOr<const Family*> FindFamily(const JsonObject& config) {
  ASSIGN_OR_RETURN(const auto model_type, config.GetOptionalString("model_type"));
  if (!model_type) return config.Invalid("model_type", "a model family");
  for (const Family* family : Families()) {
    if (family->model_type == *model_type) return family;
  }
  const auto append_name = [](std::string* out, const Family* family) {
    absl::StrAppend(out, family->model_type);
  };
  return absl::UnimplementedError(
      absl::StrCat(config.file(), ": model_type is ", Describe(*model_type),
                   ", supported are: ", absl::StrJoin(Families(), ", ", append_name)));
}

}  // namespace sluice::model
