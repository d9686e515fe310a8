// The format of weights that a flag names.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/element_types.h"

namespace sluice::bench {

// "auto", the best that this processor has kernels for, or the name of a format; otherwise
// INVALID_ARGUMENT, which says what there is.
absl::StatusOr<kernels::WeightFormat> FindFormat(absl::string_view name);

}  // namespace sluice::bench
