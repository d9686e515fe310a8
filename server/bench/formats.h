// The formats of weights that the engine runs on, by name.
#pragma once

#include <array>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/element_types.h"

namespace sluice::bench {

struct NamedFormat {
  const char* name;
  kernels::WeightFormat format;
};

// From the truth down.
inline constexpr std::array kFormats = {
    NamedFormat{"f32", kernels::WeightFormat::kF32},
    NamedFormat{"bf16", kernels::WeightFormat::kBf16},
};

// "auto", the best that this processor has kernels for, or one of kFormats; otherwise
// INVALID_ARGUMENT, which says what there is.
absl::StatusOr<NamedFormat> FindFormat(absl::string_view name);

}  // namespace sluice::bench
