// Setters for the tables of flags: each parses a text, checks it and stores it in one field.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "config/server_config.h"
#include "config/values.h"

namespace sluice::config {

// Stores what `parsed` holds, or returns its error.
template <typename T, typename U>
absl::Status Store(absl::StatusOr<T> parsed, U& field) {
  if (!parsed.ok()) return parsed.status();
  field = static_cast<U>(*std::move(parsed));
  return absl::OkStatus();
}

template <auto field>
absl::Status SetText(const std::string& text, ServerConfig& config) {
  config.*field = text;
  return absl::OkStatus();
}

template <auto field, int64_t least, int64_t most>
absl::Status SetInt(const std::string& text, ServerConfig& config) {
  return Store(ParseInt(text, least, most), config.*field);
}

template <auto field, int64_t least, int64_t most>
absl::Status SetBytes(const std::string& text, ServerConfig& config) {
  return Store(ParseBytes(text, least, most), config.*field);
}

template <auto field, int64_t least>
absl::Status SetSeconds(const std::string& text, ServerConfig& config) {
  ASSIGN_OR_RETURN(const int64_t seconds, ParseInt(text, least, 86400));
  config.*field = absl::Seconds(seconds);
  return absl::OkStatus();
}

template <auto field>
absl::Status SetBool(const std::string& text, ServerConfig& config) {
  return Store(ParseBool(text), config.*field);
}

// With a parser of its own.
template <auto field, auto parse>
absl::Status SetParsed(const std::string& text, ServerConfig& config) {
  return Store(parse(text), config.*field);
}

}  // namespace sluice::config
