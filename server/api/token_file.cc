#include "api/token_file.h"

#include <openssl/evp.h>

#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr double kMinRate = 1e-3;
constexpr double kMaxRate = 1e6;
constexpr int kMaxConcurrent = 1'000'000;

bool IsName(absl::string_view text) {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-' && c != '_') {
      return false;
    }
  }
  return true;
}

std::optional<TokenHash> ParseHash(absl::string_view text) {
  TokenHash hash;
  if (text.size() != 2 * hash.size()) return std::nullopt;
  for (size_t i = 0; i < hash.size(); ++i) {
    uint32_t byte = 0;
    const absl::string_view digits = text.substr(2 * i, 2);
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(digits[0])) ||
        !absl::SimpleHexAtoi(digits, &byte)) {
      return std::nullopt;
    }
    hash[i] = static_cast<uint8_t>(byte);
  }
  return hash;
}

absl::StatusOr<TokenRule> ParseLine(absl::string_view line) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  TokenRule rule;
  rule.name = std::string(words[0]);
  if (!IsName(rule.name)) {
    return absl::InvalidArgumentError(
        "the name must be 1 to 64 letters, digits, dots, dashes and underscores");
  }
  const auto hash = words.size() < 2 ? std::nullopt : ParseHash(words[1]);
  // The word is not shown: it may be a token that somebody forgot to hash.
  if (!hash) {
    return absl::InvalidArgumentError(
        "the name must be followed by the SHA-256 of the token in 64 hexadecimal digits");
  }
  rule.hash = *hash;
  if (rule.hash == HashToken("")) {
    return absl::InvalidArgumentError("the hash is that of an empty token");
  }
  for (size_t i = 2; i < words.size(); ++i) {
    absl::string_view value = words[i];
    double rate = 0;
    int concurrent = 0;
    if (absl::ConsumePrefix(&value, "requests_per_second=")) {
      // Compared so that NaN is wrong, too.
      if (!absl::SimpleAtod(value, &rate) || !(rate >= kMinRate && rate <= kMaxRate)) {
        return absl::InvalidArgumentError(
            "requests_per_second must be a number from 0.001 to 1000000");
      }
      rule.requests_per_second = rate;
    } else if (absl::ConsumePrefix(&value, "concurrent=")) {
      if (!absl::SimpleAtoi(value, &concurrent) || concurrent < 1 || concurrent > kMaxConcurrent) {
        return absl::InvalidArgumentError("concurrent must be a whole number from 1 to 1000000");
      }
      rule.concurrent = concurrent;
    } else {
      return absl::InvalidArgumentError(
          "behind the hash only requests_per_second=R and concurrent=N may stand");
    }
  }
  return rule;
}

}  // namespace

TokenHash HashToken(absl::string_view token) {
  TokenHash hash;
  CHECK(EVP_Digest(token.data(), token.size(), hash.data(), nullptr, EVP_sha256(), nullptr) == 1);
  return hash;
}

absl::StatusOr<std::vector<TokenRule>> ParseTokenFile(absl::string_view text) {
  std::vector<TokenRule> rules;
  // Lines by the name and the hash that they have.
  std::map<std::string, size_t> names;
  std::map<TokenHash, size_t> hashes;
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const auto error = [&](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", what));
    };
    const absl::string_view content = absl::StripAsciiWhitespace(line);
    if (content.empty() || content.front() == '#') continue;
    absl::StatusOr<TokenRule> rule = ParseLine(content);
    if (!rule.ok()) return error(rule.status().message());
    if (const auto [other, is_new] = names.emplace(rule->name, number); !is_new) {
      return error(absl::StrCat("the name is that of line ", other->second, ", too"));
    }
    if (const auto [other, is_new] = hashes.emplace(rule->hash, number); !is_new) {
      return error(absl::StrCat("the token is that of line ", other->second, ", too"));
    }
    if (rules.size() == kMaxTokens) return error("there are more than 1000 tokens");
    rules.push_back(*std::move(rule));
  }
  if (rules.empty()) return absl::InvalidArgumentError("there is no token in it");
  return rules;
}

}  // namespace sluice::api
