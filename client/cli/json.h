// JSON for people and scripts that read the output of `sluice --json`.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <string>

namespace sluice::cli {

// A message as an object with the names of the .proto. 64-bit integers are numbers, durations are
// seconds, times are RFC 3339 text, enum values are names; fields that know whether they are set
// are left out when they are not; maps are objects. Numbers that JSON does not know (infinities,
// NaN) become null.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

// One line of text; bytes that are not UTF-8 appear as U+FFFD.
std::string Dump(const nlohmann::ordered_json& json);

}  // namespace sluice::cli
