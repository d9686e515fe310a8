// The version of this build of Sluice.
#pragma once

#include "absl/strings/string_view.h"

namespace sluice::config {

// Such as "0.1.0".
absl::string_view Version();

}  // namespace sluice::config
