#include "bench/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ParsedOptions> Parse(const std::vector<std::string>& flags) {
  std::vector<const char*> argv = {"sluice-bench"};
  for (const std::string& flag : flags) argv.push_back(flag.c_str());
  return ParseOptions(static_cast<int>(argv.size()), argv.data());
}

TEST(OptionsTest, ReadsEveryFlag) {
  const auto parsed =
      Parse({"--model=/m", "--weights=bf16", "--threads=3", "--prompt=7", "--generate=9",
             "--batch=1,8,32", "--context", "0,4096", "--context_batch=1,2", "--rounds=5",
             "--interactive", "--quality", "--texts=/t", "--json"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const BenchOptions& options = parsed->options;
  EXPECT_EQ(options.model, "/m");
  EXPECT_EQ(options.weights, "bf16");
  EXPECT_EQ(options.threads, 3);
  EXPECT_EQ(options.workload.prompt, 7);
  EXPECT_EQ(options.workload.generate, 9);
  EXPECT_THAT(options.workload.batches, ElementsAre(1, 8, 32));
  EXPECT_THAT(options.workload.contexts, ElementsAre(0, 4096));
  EXPECT_THAT(options.workload.context_batches, ElementsAre(1, 2));
  EXPECT_EQ(options.rounds, 5);
  EXPECT_TRUE(options.interactive);
  EXPECT_TRUE(options.quality);
  EXPECT_EQ(options.texts, "/t");
  EXPECT_TRUE(options.json);
}

TEST(OptionsTest, DefaultsAreThoseOfTheStruct) {
  const auto parsed = Parse({"--model=/m"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const BenchOptions defaults;
  EXPECT_EQ(parsed->options.weights, defaults.weights);
  EXPECT_EQ(parsed->options.threads, defaults.threads);
  EXPECT_EQ(parsed->options.workload.prompt, defaults.workload.prompt);
  EXPECT_EQ(parsed->options.workload.generate, defaults.workload.generate);
  EXPECT_EQ(parsed->options.workload.batches, defaults.workload.batches);
  EXPECT_EQ(parsed->options.workload.contexts, defaults.workload.contexts);
  EXPECT_EQ(parsed->options.workload.context_batches, defaults.workload.context_batches);
  EXPECT_EQ(parsed->options.rounds, defaults.rounds);
  EXPECT_EQ(parsed->options.texts, defaults.texts);
  EXPECT_FALSE(parsed->options.interactive);
  EXPECT_FALSE(parsed->options.quality);
  EXPECT_FALSE(parsed->options.json);
}

TEST(OptionsTest, BadFlagsAreErrorsThatNameThem) {
  const struct {
    std::vector<std::string> flags;
    const char* named;
  } cases[] = {
      {{}, "--model"},
      {{"--model=m", "--weights=int3"}, "--weights"},
      {{"--model=m", "--threads=-1"}, "--threads"},
      {{"--model=m", "--prompt=0"}, "--prompt"},
      {{"--model=m", "--generate=x"}, "--generate"},
      {{"--model=m", "--batch=1,,2"}, "--batch"},
      {{"--model=m", "--batch=0"}, "--batch"},
      {{"--model=m", "--batch=4097"}, "--batch"},
      {{"--model=m", "--context=-1"}, "--context"},
      {{"--model=m", "--context_batch=0"}, "--context_batch"},
      {{"--model=m", "--rounds=0"}, "--rounds"},
      {{"--model=m", "--contexts=1"}, "--contexts"},
      {{"--model=m", "stray"}, "stray"},
  };
  for (const auto& c : cases) {
    const auto parsed = Parse(c.flags);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << c.named;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(c.named));
  }
}

TEST(OptionsTest, HelpNamesEveryFlag) {
  const auto parsed = Parse({"--help"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  for (const char* flag :
       {"--model", "--weights", "--threads", "--prompt", "--generate", "--batch", "--context",
        "--context_batch", "--rounds", "--interactive", "--quality", "--texts", "--json"}) {
    EXPECT_THAT(parsed->text, HasSubstr(flag));
  }
}

TEST(OptionsTest, ARoundTakesContextsOfTheWorkload) {
  const Workload workload = {.contexts = {0, 128, 4096}};
  const auto all = ParseContexts("", workload);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_THAT(*all, ElementsAre(0, 128, 4096));
  const auto some = ParseContexts("4096,0", workload);
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_THAT(*some, ElementsAre(4096, 0));
  for (const char* text : {"1", "0,x", ",", "0 128"}) {
    EXPECT_EQ(ParseContexts(text, workload).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace sluice::bench
