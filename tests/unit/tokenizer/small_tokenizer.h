// Tokenizers of a few dozen tokens, as variations of one tokenizer.json.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tokenizer/tokenizer.h"

namespace sluice::tokenizer {

// BPE without merges: one token for each of "<unk>", a to z, A to C, blank, U+2581, '_', 1, 2, 3,
// '.', U+00E9, '~', "<0xC3>" and "<0xA8>", in this order from id 0.
nlohmann::json SmallTokenizerJson();

// The member of "added_tokens" for `content`; `flags` are those of its members that are true.
nlohmann::json AddedTokenJson(int id, const std::string& content,
                              const std::vector<std::string>& flags = {});

// Parses SmallTokenizerJson() with `patch` merged in (RFC 7396); null changes nothing.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const nlohmann::json& patch);

// The texts of the tokens of `text`, with vertical bars between them; or the error.
std::string EncodeToText(const nlohmann::json& patch, const std::string& text,
                         bool add_special_tokens = true);

}  // namespace sluice::tokenizer
