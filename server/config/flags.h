// The server's flags: how each is called, what --help says of it, and how its text becomes a field
// of ServerConfig.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "config/command_line.h"
#include "config/server_config.h"

namespace sluice::config {

struct Flag {
  FlagSpec spec;
  // Parses, checks and stores. Errors say what is allowed; the caller adds which flag it is.
  absl::Status (*set)(const std::string& text, ServerConfig& config);
};

// The model, what it computes with, and how much work the server takes on.
absl::Span<const Flag> EngineFlags();
// Ports, who may come in, what gRPC takes on, and what is logged.
absl::Span<const Flag> TransportFlags();

}  // namespace sluice::config
