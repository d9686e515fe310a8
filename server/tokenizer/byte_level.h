// The alphabet of byte-level tokenizers: one printable character for each of the 256 bytes, so that
// a vocabulary of text can hold any bytes (Radford et al. 2019, the GPT-2 encoder).
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace sluice::tokenizer {

// Appends every byte of `text` as its character of the alphabet, which takes one or two bytes of
// UTF-8.
void AppendByteAlphabet(absl::string_view text, std::string& result);

// The bytes that the characters of `token` stand for; nullopt if one of them is not in the
// alphabet. REQUIRES: valid UTF-8.
std::optional<std::string> FromByteAlphabet(absl::string_view token);

}  // namespace sluice::tokenizer
