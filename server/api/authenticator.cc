#include "api/authenticator.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "api/flag_file.h"
#include "api/status_mapping.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace sluice::api {
namespace {

// When one of a token's calls ends is not known.
constexpr absl::Duration kPlaceRetryDelay = absl::Seconds(1);

absl::StatusOr<std::vector<TokenRule>> ReadTokenFile(const std::string& path) {
  constexpr absl::string_view kFlag = "--auth_tokens";
  ASSIGN_OR_RETURN(const std::string text, ReadFlagFile(kFlag, path));
  auto rules = ParseTokenFile(text);
  if (!rules.ok()) return FlagFileError(kFlag, path, rules.status().message());
  return rules;
}

bool SameRules(const TokenRule& a, const TokenRule& b) {
  return a.name == b.name && a.hash == b.hash && a.requests_per_second == b.requests_per_second &&
         a.concurrent == b.concurrent;
}

}  // namespace

absl::Status TokenUse::Take(const TokenRule& rule, absl::Time now) {
  base::MutexLock lock(mutex_);
  if (rule.concurrent && open_ >= *rule.concurrent) {
    return WithRetryDelay(
        absl::ResourceExhaustedError(absl::StrCat("the token may have ", *rule.concurrent,
                                                  " calls open at the same time, and it has")),
        kPlaceRetryDelay);
  }
  if (rule.requests_per_second) {
    const double rate = *rule.requests_per_second;
    const double most = std::max(1.0, rate);
    // A clock that was set back adds nothing.
    const double seconds = std::max(0.0, absl::ToDoubleSeconds(now - updated_));
    allowance_ = std::min(most, allowance_ + rate * seconds);
    updated_ = now;
    if (allowance_ < 1) {
      return WithRetryDelay(absl::ResourceExhaustedError(absl::StrCat(
                                "the token may begin ", rate, " calls in a second, and it has")),
                            absl::Seconds((1 - allowance_) / rate));
    }
    allowance_ -= 1;
  }
  ++open_;
  return absl::OkStatus();
}

void TokenUse::Release() {
  base::MutexLock lock(mutex_);
  --open_;
}

absl::StatusOr<std::unique_ptr<Authenticator>> Authenticator::Load(const std::string& file,
                                                                   const base::Clock& clock) {
  ASSIGN_OR_RETURN(std::vector<TokenRule> rules, ReadTokenFile(file));
  std::unique_ptr<Authenticator> made(new Authenticator(file, clock));
  made->Set(std::move(rules));
  return made;
}

Authenticator::Authenticator(std::string file, const base::Clock& clock)
    : file_(std::move(file)), clock_(clock), table_(std::make_shared<Table>()) {}

void Authenticator::Set(std::vector<TokenRule> rules) {
  base::MutexLock lock(mutex_);
  auto table = std::make_shared<Table>();
  for (TokenRule& rule : rules) {
    const auto old = std::find_if(table_->begin(), table_->end(),
                                  [&](const Entry& entry) { return entry.rule.name == rule.name; });
    auto use = old != table_->end() ? old->use : std::make_shared<TokenUse>();
    table->push_back({std::move(rule), std::move(use)});
  }
  table_ = std::move(table);
}

void Authenticator::Reload() {
  base::MutexLock reload_lock(reload_mutex_);
  auto rules = ReadTokenFile(file_);
  if (!rules.ok()) {
    base::Log().error("tokens not taken, the old ones stay in use: {}",
                      std::string(rules.status().message()));
    return;
  }
  {
    base::MutexLock lock(mutex_);
    if (std::equal(rules->begin(), rules->end(), table_->begin(), table_->end(),
                   [](const TokenRule& a, const Entry& b) { return SameRules(a, b.rule); })) {
      return;
    }
  }
  const size_t num_tokens = rules->size();
  Set(*std::move(rules));
  base::Log().info("tokens read again tokens={}", num_tokens);
}

absl::StatusOr<Authenticator::Entry> Authenticator::Find(
    const std::vector<absl::string_view>& authorization) const {
  constexpr absl::string_view kScheme = "Bearer ";
  if (authorization.size() != 1 || !absl::StartsWithIgnoreCase(authorization[0], kScheme)) {
    return absl::UnauthenticatedError(
        "a token is needed, in the metadata \"authorization: Bearer TOKEN\"");
  }
  const TokenHash hash = HashToken(authorization[0].substr(kScheme.size()));
  std::shared_ptr<const Table> table;
  {
    base::MutexLock lock(mutex_);
    table = table_;
  }
  // All of them are compared, in constant time, so that the time says nothing about the hashes.
  const Entry* found = nullptr;
  for (const Entry& entry : *table) {
    if (CRYPTO_memcmp(entry.rule.hash.data(), hash.data(), hash.size()) == 0) found = &entry;
  }
  if (found == nullptr) return absl::UnauthenticatedError("the token is not known");
  return *found;
}

absl::StatusOr<Caller> Authenticator::Admit(const std::vector<absl::string_view>& authorization) {
  ASSIGN_OR_RETURN(const Entry entry, Find(authorization));
  RETURN_IF_ERROR(entry.use->Take(entry.rule, clock_.Now()));
  return Caller(entry.rule.name, entry.use);
}

absl::StatusOr<std::string> Authenticator::Check(
    const std::vector<absl::string_view>& authorization) const {
  ASSIGN_OR_RETURN(const Entry entry, Find(authorization));
  return entry.rule.name;
}

}  // namespace sluice::api
