#include "config/version.h"

namespace sluice::config {

absl::string_view Version() { return SLUICE_VERSION; }

}  // namespace sluice::config
