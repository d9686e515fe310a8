#include "api/authenticator.h"

#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "api/status_mapping.h"
#include "support/manual_clock.h"
#include "support/temp_folder.h"

namespace sluice::api {
namespace {

using testing::ManualClock;

// A line for the token "<name>-token".
std::string Line(const std::string& name, const std::string& limits = "") {
  const TokenHash hash = HashToken(absl::StrCat(name, "-token"));
  return absl::StrCat(name, " ",
                      absl::BytesToHexString(absl::string_view(
                          reinterpret_cast<const char*>(hash.data()), hash.size())),
                      " ", limits, "\n");
}

class AuthenticatorTest : public ::testing::Test {
 protected:
  void Write(const std::string& text) { std::ofstream(path_, std::ios::trunc) << text; }
  void Load(const std::string& text) {
    Write(text);
    auto made = Authenticator::Load(path_, clock_);
    ASSERT_TRUE(made.ok()) << made.status();
    tokens_ = *std::move(made);
  }
  absl::StatusOr<Caller> Admit(const std::string& name) {
    const std::string authorization = absl::StrCat("Bearer ", name, "-token");
    return tokens_->Admit({authorization});
  }
  absl::StatusCode CodeFor(const std::string& name) { return Admit(name).status().code(); }

  ManualClock clock_;
  std::unique_ptr<Authenticator> tokens_;
  const testing::TempFolder folder_;
  const std::string path_ = folder_.Path("tokens");
};

TEST_F(AuthenticatorTest, LetsInWhoHasAToken) {
  Load(Line("alice") + Line("bob"));
  const std::string alice = "Bearer alice-token";
  const std::string bob = "bearer bob-token";
  EXPECT_EQ(tokens_->Admit({alice})->token_name(), "alice");
  EXPECT_EQ(tokens_->Admit({bob})->token_name(), "bob");
  EXPECT_TRUE(tokens_->Check({alice}).ok());
  const std::vector<std::vector<absl::string_view>> others = {
      {},
      {""},
      {"Bearer "},
      {"Bearer alice"},
      {"Bearer  alice-token"},
      {"Bearer alice-token "},
      {"Basic alice-token"},
      {"alice-token"},
      // What the file holds is no token.
      {"Bearer 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"},
      {alice, alice},
  };
  for (const auto& other : others) {
    EXPECT_EQ(tokens_->Admit(other).status().code(), absl::StatusCode::kUnauthenticated);
    EXPECT_EQ(tokens_->Check(other).status().code(), absl::StatusCode::kUnauthenticated);
  }
}

TEST_F(AuthenticatorTest, KeepsATokenToItsRate) {
  Load(Line("alice", "requests_per_second=2") + Line("slow", "requests_per_second=0.1") +
       Line("bob"));
  EXPECT_TRUE(Admit("alice").ok());
  EXPECT_TRUE(Admit("alice").ok());
  const absl::Status refused = Admit("alice").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RetryDelayOf(refused), absl::Milliseconds(500));
  EXPECT_TRUE(Admit("bob").ok());
  clock_.Advance(absl::Milliseconds(499));
  EXPECT_FALSE(Admit("alice").ok());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_TRUE(Admit("alice").ok());
  EXPECT_FALSE(Admit("alice").ok());
  // What is not used is not saved up beyond a second.
  clock_.Advance(absl::Hours(1));
  EXPECT_TRUE(Admit("alice").ok());
  EXPECT_TRUE(Admit("alice").ok());
  EXPECT_FALSE(Admit("alice").ok());

  EXPECT_TRUE(Admit("slow").ok());
  EXPECT_EQ(RetryDelayOf(Admit("slow").status()), absl::Seconds(10));
  clock_.Advance(absl::Seconds(10));
  EXPECT_TRUE(Admit("slow").ok());
}

TEST_F(AuthenticatorTest, KeepsATokenToItsPlaces) {
  Load(Line("alice", "concurrent=2 requests_per_second=3"));
  std::optional<absl::StatusOr<Caller>> first(Admit("alice"));
  absl::StatusOr<Caller> second = Admit("alice");
  ASSERT_TRUE(first->ok() && second.ok());
  const absl::Status refused = Admit("alice").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(RetryDelayOf(refused), absl::Seconds(1));
  // A refusal costs nothing of the rate.
  first.reset();
  EXPECT_TRUE(Admit("alice").ok());
  // Moving a caller gives nothing back.
  clock_.Advance(absl::Seconds(1));
  const absl::StatusOr<Caller> third = Admit("alice");
  const Caller moved = *std::move(second);
  EXPECT_FALSE(Admit("alice").ok());
  EXPECT_EQ(moved.token_name(), "alice");
}

TEST_F(AuthenticatorTest, ReloadingKeepsWhatIsInUse) {
  Load(Line("alice", "concurrent=1") + Line("bob"));
  absl::StatusOr<Caller> bob = Admit("bob");
  {
    const absl::StatusOr<Caller> alice = Admit("alice");
    Write(Line("carol") + Line("alice", "concurrent=1"));
    tokens_->Reload();
    EXPECT_EQ(CodeFor("bob"), absl::StatusCode::kUnauthenticated);
    EXPECT_EQ(CodeFor("carol"), absl::StatusCode::kOk);
    EXPECT_EQ(CodeFor("alice"), absl::StatusCode::kResourceExhausted);
  }
  EXPECT_EQ(CodeFor("alice"), absl::StatusCode::kOk);
}

TEST_F(AuthenticatorTest, ABrokenFileChangesNothing) {
  Load(Line("alice"));
  for (const char* text : {"", "alice", "alice hash"}) {
    Write(text);
    tokens_->Reload();
    EXPECT_TRUE(Admit("alice").ok()) << text;
    const absl::Status at_start = Authenticator::Load(path_, clock_).status();
    EXPECT_EQ(at_start.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(at_start.message().find(absl::StrCat("--auth_tokens=", path_)),
              absl::string_view::npos);
  }
  EXPECT_FALSE(Authenticator::Load("/no/such/file", clock_).ok());
  EXPECT_FALSE(Authenticator::Load("/", clock_).ok());
}

TEST_F(AuthenticatorTest, ThreadsShareOneSetOfPlaces) {
  Load(Line("alice", "concurrent=3"));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        const auto first = Admit("alice");
        if (round % 50 == 0) tokens_->Reload();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto a = Admit("alice");
  const auto b = Admit("alice");
  const auto c = Admit("alice");
  EXPECT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_FALSE(Admit("alice").ok());
}

}  // namespace
}  // namespace sluice::api
