#include "bench/formats.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/kernel_set.h"

namespace sluice::bench {

absl::StatusOr<kernels::WeightFormat> FindFormat(absl::string_view name) {
  if (name == "auto") return kernels::BestFormat();
  std::string names = "auto";
  for (const kernels::WeightFormat format : kernels::kAllWeightFormats) {
    if (name == kernels::NameOf(format)) return format;
    absl::StrAppend(&names, ", ", kernels::NameOf(format));
  }
  return absl::InvalidArgumentError(absl::StrCat("must be one of ", names));
}

}  // namespace sluice::bench
