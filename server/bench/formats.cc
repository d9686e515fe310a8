#include "bench/formats.h"

#include "absl/strings/str_cat.h"
#include "kernels/kernel_set.h"

namespace sluice::bench {

absl::StatusOr<NamedFormat> FindFormat(absl::string_view name) {
  if (name == "auto") {
    const kernels::WeightFormat best = kernels::BestFormat();
    for (const NamedFormat& format : kFormats) {
      if (format.format == best) return format;
    }
  }
  std::string names = "auto";
  for (const NamedFormat& format : kFormats) {
    if (name == format.name) return format;
    absl::StrAppend(&names, ", ", format.name);
  }
  return absl::InvalidArgumentError(absl::StrCat("must be one of ", names));
}

}  // namespace sluice::bench
