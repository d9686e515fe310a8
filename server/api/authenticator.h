// Authenticator: knows the tokens that callers need, and keeps each to its limits. Tokens
// themselves are never stored nor logged.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "api/token_file.h"
#include "base/clock.h"
#include "base/mutex.h"

namespace sluice::api {

// What one token uses at the moment. Thread-safe.
class TokenUse {
 public:
  // Takes a place and one of the calls that may begin, or says RESOURCE_EXHAUSTED with when to come
  // back.
  absl::Status Take(const TokenRule& rule, absl::Time now);
  void Release();

 private:
  base::Mutex mutex_;
  int open_ ABSL_GUARDED_BY(mutex_) = 0;
  // Calls that may begin now, as of `updated_`; refilled at the rate of the rule.
  double allowance_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time updated_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

// Somebody who was let in; has one of his token's places while it lives.
class Caller {
 public:
  Caller(std::string token_name, std::shared_ptr<TokenUse> use)
      : token_name_(std::move(token_name)), use_(std::move(use)) {}
  ~Caller() {
    if (use_ != nullptr) use_->Release();
  }
  Caller(Caller&&) = default;
  Caller& operator=(Caller&&) = delete;

  const std::string& token_name() const { return token_name_; }

 private:
  std::string token_name_;
  std::shared_ptr<TokenUse> use_;
};

// Thread-safe.
class Authenticator {
 public:
  // Reads the file of tokens (see token_file.h). INVALID_ARGUMENT that names the flag and the line.
  // `clock` must outlive this.
  static absl::StatusOr<std::unique_ptr<Authenticator>> Load(const std::string& file,
                                                             const base::Clock& clock);

  // Reads the file again. What a token uses stays counted as long as its name stays. What is wrong
  // with the file is logged, and then the tokens that were read before stay in use.
  void Reload();

  // `authorization` is what the caller sent under that name, "Bearer TOKEN", one string for each
  // time. UNAUTHENTICATED if that is no known token; RESOURCE_EXHAUSTED with when to come back if
  // it is beyond its limits.
  absl::StatusOr<Caller> Admit(const std::vector<absl::string_view>& authorization);
  // The name of the token if it is a known one, whatever it uses.
  absl::StatusOr<std::string> Check(const std::vector<absl::string_view>& authorization) const;

 private:
  struct Entry {
    TokenRule rule;
    std::shared_ptr<TokenUse> use;
  };
  using Table = std::vector<Entry>;

  Authenticator(std::string file, const base::Clock& clock);

  absl::StatusOr<Entry> Find(const std::vector<absl::string_view>& authorization) const;
  void Set(std::vector<TokenRule> rules);

  const std::string file_;
  const base::Clock& clock_;
  // Held from reading the file to taking over what it says, so that no older reading comes last.
  base::Mutex reload_mutex_;
  mutable base::Mutex mutex_;
  std::shared_ptr<const Table> table_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice::api
