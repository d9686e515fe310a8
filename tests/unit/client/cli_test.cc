#include "cli/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fake_server.h"

namespace sluice::cli {
namespace {

using client::EventWriter;
using client::FakeServer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Outcome {
  int exit_code;
  std::string out;
  std::string err;
};

Outcome Sluice(const FakeServer& server, std::vector<std::string> arguments,
               const std::string& input = "", bool terminal = false) {
  arguments.push_back("--address=" + server.address());
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  Console console{.in = in,
                  .out = out,
                  .err = err,
                  .in_is_terminal = terminal,
                  .out_is_terminal = terminal,
                  .color = terminal};
  const int exit_code = RunCli(arguments, console);
  return {exit_code, out.str(), err.str()};
}

std::vector<nlohmann::json> JsonLines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  for (const auto& line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    lines.push_back(nlohmann::json::parse(std::string(line), nullptr, false));
    EXPECT_FALSE(lines.back().is_discarded()) << line;
  }
  return lines;
}

TEST(CliTest, WhatStandsInPlaceOfASubcommandIsNamed) {
  FakeServer server;
  EXPECT_THAT(Sluice(server, {"frobnicate", "hi"}).err,
              StartsWith("sluice: no subcommand \"frobnicate\" (see sluice --help)\n"));
  EXPECT_THAT(Sluice(server, {"--adress=x", "frobnicate"}).err,
              StartsWith("sluice: no flag \"--adress=x\""));
  EXPECT_THAT(Sluice(server, {"\x1b[2J"}).err, StartsWith("sluice: no subcommand \"\\x1b[2J\""));
  EXPECT_THAT(Sluice(server, {""}).err, StartsWith("sluice: no subcommand \"\""));
}

TEST(CliTest, WrongUsageExitsWithTwoAndSendsNothing) {
  FakeServer server;
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"frobnicate"},
      {"generate"},
      {"generate", "hi", "--temperature=warm"},
      {"generate", "hi", "--max_tokens=99999999999"},
      {"generate", "hi", "--token_ids=1,2"},
      {"generate", "hi", "--logprobs=1"},
      {"generate", "hi", "--logit_bias=7"},
      {"generate", "hi", "--logit_bias=7=1,x=2"},
      {"generate", "hi", "--logit_bias=7=1=2"},
      {"chat", "--num_choices=2"},
      {"generate", "hi", "there"},
      {"generate", "hi", "--timeout=-1"},
      {"tokenize"},
      {"experts", "--interval=0"},
      {"load", "--rate=1", "--requests=2"},
      {"load", "--duration=1"},
      {"load", "--rate=1e9"},
      {"load", "--chat"},
      {"load", "--prompt_file=/no/such/file"},
      {"load", "--concurrency=0"},
      {"load", "--cancel_share=1.5"},
      {"load", "--cancel_within=1"},
      {"load", "--connections=0"},
      {"generate", "hi", "--retries=-1"},
  };
  for (const auto& arguments : cases) {
    SCOPED_TRACE(::testing::PrintToString(arguments));
    const Outcome outcome = Sluice(server, arguments);
    EXPECT_EQ(outcome.exit_code, kExitUsage);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, StartsWith("sluice: "));
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
  }
  EXPECT_TRUE(server.requests().empty());
}

TEST(CliTest, HelpNamesCommandsAndExitCodes) {
  const FakeServer server;
  const Outcome outcome = Sluice(server, {"--help"});
  EXPECT_EQ(outcome.exit_code, kExitOk);
  for (const char* word : {"generate", "chat", "tokenize", "info", "experts", "load", "health",
                           "SLUICE_ADDRESS", "Exit codes: 0 "}) {
    EXPECT_THAT(outcome.out, HasSubstr(word));
  }
  EXPECT_THAT(Sluice(server, {"load", "--help"}).out, HasSubstr("--concurrency"));
}

TEST(CliTest, GenerateStreamsTextAndSummary) {
  const FakeServer server;
  const Outcome outcome = Sluice(server, {"generate", "hi"});
  EXPECT_EQ(outcome.exit_code, kExitOk);
  EXPECT_EQ(outcome.out, "Hello, world!\n");
  EXPECT_THAT(outcome.err, StartsWith("tokens: 5 prompt, 2 generated, first after "));
  EXPECT_THAT(outcome.err, HasSubstr("ended by its length"));
  EXPECT_EQ(Sluice(server, {"generate", "hi", "--quiet"}).err, "");
}

TEST(CliTest, GenerateAsJsonIsOneObjectPerEvent) {
  const FakeServer server;
  const auto events = JsonLines(Sluice(server, {"generate", "hi", "--json"}).out);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0]["started"]["request_id"], "r1");
  EXPECT_EQ(events[1]["delta"]["text"], "Hello,");
  EXPECT_EQ(events[2]["delta"]["token_ids"][0], 7);
  EXPECT_EQ(events[3]["finished"]["usage"]["generated_tokens"], 2);
}

TEST(CliTest, ChoicesArePrintedOneAfterTheOther) {
  FakeServer server;
  server.OnGenerate(client::SayThreeThings);
  const Outcome outcome = Sluice(server, {"generate", "hi", "--num_choices=3"});
  EXPECT_EQ(outcome.out, "[choice 0]\none\n[choice 1]\ntwo and a half\n[choice 2]\n\n");
  EXPECT_THAT(outcome.err, StartsWith("tokens: 5 prompt, 6 generated in 3 choices, "));
  EXPECT_THAT(outcome.err, HasSubstr("ended by its length, its length, its length"));
  // What came before a failure is shown.
  EXPECT_EQ(Sluice(server, {"generate", "fail", "--num_choices=3"}).out,
            "[choice 0]\none\n[choice 1]\ntwo and a half\n");
  const auto events =
      JsonLines(Sluice(server, {"generate", "hi", "--num_choices=3", "--json"}).out);
  ASSERT_EQ(events.size(), 8u);
  EXPECT_EQ(events[1]["delta"]["choice"], 1);
  EXPECT_EQ(events[4]["finished"]["choice"], 2);
}

TEST(CliTest, FlagsBecomeFieldsAndAbsentOnesStayAbsent) {
  FakeServer server;
  Sluice(server, {"generate",
                  "hi",
                  "--model=m",
                  "--request_id=r",
                  "--temperature=0",
                  "--top_k=5",
                  "--top_p=0.5",
                  "--min_p",
                  "0.25",
                  "--seed=18446744073709551615",
                  "--max_tokens=9",
                  "--stop",
                  "a,b",
                  "--stop",
                  "c",
                  "--stop_token=1,2",
                  "--stop_token=3",
                  "--ignore_eos",
                  "--logprobs=0",
                  "--prompt_logprobs=2",
                  "--add_special_tokens=false",
                  "--skip_special_tokens=true",
                  "--typical_p=0.75",
                  "--repetition_penalty=1.5",
                  "--presence_penalty=-1",
                  "--frequency_penalty=0.5",
                  "--logit_bias=7=-100,8=1.5",
                  "--logit_bias",
                  "9=2",
                  "--min_tokens=3",
                  "--include_stop",
                  "--num_choices=4",
                  "--echo",
                  "--priority=-5",
                  "--bypass_prefix_cache",
                  "--cache_salt=salt",
                  "--json"});
  Sluice(server, {"generate", "hi"});
  Sluice(server, {"generate", "--temperature", "-1", "--stop", "x", "hi"});
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 3u);

  v1::GenerateRequest full;
  full.set_request_id("r");
  full.set_model("m");
  full.set_text("hi");
  full.set_add_special_tokens(false);
  full.mutable_sampling()->set_temperature(0);
  full.mutable_sampling()->set_top_k(5);
  full.mutable_sampling()->set_top_p(0.5);
  full.mutable_sampling()->set_min_p(0.25);
  full.mutable_sampling()->set_seed(18446744073709551615u);
  full.mutable_stopping()->set_max_tokens(9);
  full.mutable_stopping()->add_stop_strings("a,b");
  full.mutable_stopping()->add_stop_strings("c");
  for (const int id : {1, 2, 3}) full.mutable_stopping()->add_stop_token_ids(id);
  full.mutable_stopping()->set_ignore_eos(true);
  full.mutable_response()->set_logprobs(0);
  full.mutable_response()->set_prompt_logprobs(2);
  full.mutable_response()->set_skip_special_tokens(true);
  full.mutable_sampling()->set_typical_p(0.75);
  full.mutable_sampling()->set_repetition_penalty(1.5);
  full.mutable_sampling()->set_presence_penalty(-1);
  full.mutable_sampling()->set_frequency_penalty(0.5);
  for (const auto& [id, bias] : std::map<int, float>{{7, -100}, {8, 1.5}, {9, 2}}) {
    (*full.mutable_sampling()->mutable_logit_bias())[id] = bias;
  }
  full.mutable_stopping()->set_min_tokens(3);
  full.mutable_stopping()->set_include_stop(true);
  full.set_num_choices(4);
  full.mutable_response()->set_echo(true);
  full.set_priority(-5);
  full.set_bypass_prefix_cache(true);
  full.set_cache_salt("salt");
  EXPECT_EQ(requests[0].DebugString(), full.DebugString());

  v1::GenerateRequest empty;
  empty.set_text("hi");
  empty.mutable_sampling();
  empty.mutable_stopping();
  empty.mutable_response();
  EXPECT_EQ(requests[1].DebugString(), empty.DebugString());

  EXPECT_EQ(requests[2].sampling().temperature(), -1);
  EXPECT_EQ(requests[2].text(), "hi");
}

TEST(CliTest, PromptsMayBeTokensOrStandardInput) {
  FakeServer server;
  Sluice(server, {"generate", "--token_ids=4,5,-6"});
  Sluice(server, {"generate", "-"}, "two\nlines\n");
  Sluice(server, {"generate", ""});
  ASSERT_EQ(server.requests().size(), 3u);
  EXPECT_THAT(server.requests()[0].token_ids().ids(), ElementsAre(4, 5, -6));
  EXPECT_EQ(server.requests()[1].text(), "two\nlines\n");
  EXPECT_TRUE(server.requests()[2].has_text());
  EXPECT_EQ(server.requests()[2].text(), "");
}

TEST(CliTest, ErrorsAreOneLineAndExitWithOne) {
  FakeServer server;
  server.OnGenerate([](const auto&, EventWriter&) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "model: no\nsuch model");
  });
  const Outcome outcome = Sluice(server, {"generate", "hi"});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "sluice: NOT_FOUND: model: no such model\n");
}

TEST(CliTest, TimeoutEndsTheCall) {
  FakeServer server;
  server.OnGenerate(client::TalkForever);
  const Outcome outcome = Sluice(server, {"generate", "hi", "--timeout=0.05"});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_THAT(outcome.err, StartsWith("sluice: DEADLINE_EXCEEDED: "));
}

TEST(CliTest, InterruptCancelsTheCall) {
  FakeServer server;
  server.OnGenerate([](const v1::GenerateRequest& request, EventWriter& writer) {
    raise(SIGINT);
    return client::TalkForever(request, writer);
  });
  const Outcome outcome = Sluice(server, {"generate", "hi"});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_EQ(outcome.err, "sluice: CANCELLED: interrupted\n");
}

TEST(CliTest, ChatKeepsTheConversation) {
  FakeServer server;
  const Outcome outcome = Sluice(server, {"chat", "--system=Be brief.", "--quiet"},
                                 "one\n\ntwo\n/reset\nthree\n/quit\nfour\n");
  EXPECT_EQ(outcome.exit_code, kExitOk);
  EXPECT_EQ(outcome.out, "Hello, world!\nHello, world!\nHello, world!\n");
  std::vector<std::string> conversations;
  for (const v1::GenerateRequest& request : server.requests()) {
    std::string text;
    for (const v1::ChatMessage& message : request.chat().messages()) {
      absl::StrAppend(&text, message.role(), "=", message.content(), ";");
    }
    conversations.push_back(text);
  }
  EXPECT_THAT(conversations,
              ElementsAre("system=Be brief.;user=one;",
                          "system=Be brief.;user=one;assistant=Hello, world!;user=two;",
                          "system=Be brief.;user=three;"));
}

TEST(CliTest, ChatSaysOneMessage) {
  FakeServer server;
  EXPECT_EQ(Sluice(server, {"chat", "--message", "hi", "--temperature=0"}, "not read\n").out,
            "Hello, world!\n");
  ASSERT_EQ(server.requests().size(), 1u);
  EXPECT_EQ(server.requests()[0].chat().messages(0).content(), "hi");
  EXPECT_TRUE(server.requests()[0].sampling().has_temperature());
}

TEST(CliTest, ChatGoesOnAfterAnErrorOnlyAtATerminal) {
  FakeServer server;
  server.OnGenerate([](const v1::GenerateRequest& request, EventWriter& writer) {
    const std::string& said = request.chat().messages().rbegin()->content();
    if (said == "bad") return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "too bad");
    return client::SayHello(request, writer);
  });
  const Outcome script = Sluice(server, {"chat", "--quiet"}, "bad\ngood\n");
  EXPECT_EQ(script.exit_code, kExitError);
  EXPECT_EQ(script.out, "");
  EXPECT_EQ(script.err, "sluice: INVALID_ARGUMENT: too bad\n");

  const Outcome terminal = Sluice(server, {"chat", "--quiet"}, "bad\ngood\n", /*terminal=*/true);
  EXPECT_EQ(terminal.exit_code, kExitOk);
  EXPECT_EQ(terminal.out, "> > Hello, world!\n> ");
  EXPECT_THAT(terminal.err, HasSubstr("too bad"));
  // What was refused is not part of the conversation.
  EXPECT_EQ(server.requests().back().chat().messages_size(), 1);
}

TEST(CliTest, TokenizeShowsIdsAndPieces) {
  const FakeServer server;
  EXPECT_EQ(Sluice(server, {"tokenize", "a b"}).out, "97\t\"a\"\n32\t\" \"\n98\t\"b\"\n");
  const auto json = JsonLines(Sluice(server, {"tokenize", "b", "--chat", "--json"}).out);
  EXPECT_EQ(json[0]["rendered_prompt"], "user:b");
  EXPECT_EQ(json[0]["token_ids"].size(), 6u);
  EXPECT_EQ(json[0]["pieces"][5], "b");
}

TEST(CliTest, InfoShowsServerModelAndLoad) {
  FakeServer server;
  server.server_info.set_version("9.9");
  server.server_info.set_ready(true);
  server.model_info.set_name("demo");
  server.model_info.set_num_parameters(5'300'000);
  server.load.set_total_kv_blocks(128);
  const std::string text = Sluice(server, {"info"}).out;
  for (const char* part : {"sluice 9.9, ready", "demo", "5.30 M parameters", "0 of 128 blocks"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  const auto json = JsonLines(Sluice(server, {"info", "--json"}).out);
  EXPECT_EQ(json[0]["server"]["version"], "9.9");
  EXPECT_EQ(json[0]["model"]["num_parameters"], 5300000);
  EXPECT_EQ(json[0]["load"]["total_kv_blocks"], 128);
}

TEST(CliTest, InfoOfALoadingServerIsWhatThereIs) {
  FakeServer server;
  server.server_info.set_version("9.9");
  const Outcome outcome = Sluice(server, {"info"});
  EXPECT_EQ(outcome.exit_code, kExitOk);
  EXPECT_THAT(outcome.out, HasSubstr("sluice 9.9, loading"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("model")));
}

TEST(CliTest, InfoSaysThatAServerDrains) {
  FakeServer server;
  server.server_info.set_version("9.9");
  server.server_info.set_phase(v1::SERVER_PHASE_DRAINING);
  server.model_info.set_name("demo");
  const Outcome outcome = Sluice(server, {"info"});
  EXPECT_EQ(outcome.exit_code, kExitOk);
  EXPECT_THAT(outcome.out, HasSubstr("sluice 9.9, draining"));
  EXPECT_THAT(outcome.out, HasSubstr("demo"));
}

TEST(CliTest, FilesOfTheConnectionThatCannotBeReadAreWrongUsage) {
  FakeServer server;
  for (const char* flag : {"--tls_ca", "--token_file"}) {
    const Outcome outcome = Sluice(server, {"info", flag, "/no/such/file"});
    EXPECT_EQ(outcome.exit_code, kExitUsage) << flag;
    EXPECT_THAT(outcome.err, HasSubstr("/no/such/file"));
  }
  EXPECT_THAT(Sluice(server, {"info", "--tls_cert", "/c"}).err, HasSubstr("one is missing"));
  const Outcome without_tls = Sluice(server, {"info", "--tls_server_name", "x"});
  EXPECT_EQ(without_tls.exit_code, kExitUsage);
  EXPECT_THAT(without_tls.err, HasSubstr("tls_server_name needs tls_ca"));
}

v1::GetExpertLoadResponse ExpertLoad(int seconds, int64_t steps, std::vector<int64_t> tokens) {
  v1::GetExpertLoadResponse load;
  load.mutable_time()->set_seconds(seconds);
  load.set_steps(steps);
  v1::LayerExpertLoad& layer = *load.add_layers();
  layer.set_layer(1);
  layer.mutable_tokens()->Assign(tokens.begin(), tokens.end());
  return load;
}

TEST(CliTest, ExpertsOnceShowsSharesSinceTheStart) {
  FakeServer server;
  server.expert_loads = {ExpertLoad(100, 7, {30, 10}), ExpertLoad(100, 7, {30, 10})};
  const Outcome outcome = Sluice(server, {"experts", "--once"});
  EXPECT_EQ(outcome.exit_code, kExitOk);
  EXPECT_THAT(outcome.out, StartsWith("since the start: 7 steps, 40 routings\n"));
  EXPECT_THAT(outcome.out, HasSubstr("    1  75  25"));
  const auto json = JsonLines(Sluice(server, {"experts", "--once", "--json"}).out);
  EXPECT_EQ(json[0]["layers"][0]["tokens"], nlohmann::json({30, 10}));
  EXPECT_EQ(json[0]["layers"][0]["imbalance"], 1.5);
}

TEST(CliTest, ExpertsShowsRatesUntilTheServerGoes) {
  FakeServer server;
  server.expert_loads = {ExpertLoad(100, 7, {30, 10}), ExpertLoad(102, 9, {30, 30}),
                         ExpertLoad(103, 10, {40, 40})};
  const Outcome outcome = Sluice(server, {"experts", "--interval=0.001", "--retries=0"});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_EQ(outcome.err, "sluice: UNAVAILABLE: no more\n");
  EXPECT_THAT(outcome.out, StartsWith("last 2.0 s: 2 steps, 10 routings/s\n"));
  EXPECT_THAT(outcome.out, HasSubstr("    1   . 100"));
  EXPECT_THAT(outcome.out, HasSubstr("last 1.0 s: 1 steps, 20 routings/s\n"));
  EXPECT_THAT(outcome.out, HasSubstr("    1  50  50"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("\x1b")));
}

TEST(CliTest, LoadReportsInTextAndJson) {
  FakeServer server;
  server.model_info.set_vocab_size(50);
  const auto json = JsonLines(Sluice(server, {"load", "--requests=6", "--concurrency=2",
                                              "--prompt_tokens=10", "--max_tokens=2", "--json"})
                                  .out);
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["ok"], 6);
  EXPECT_EQ(json[0]["failed"], nlohmann::json::object());
  EXPECT_EQ(json[0]["output_tokens"], 12);
  EXPECT_EQ(json[0]["prompt_tokens"], 30);
  EXPECT_EQ(json[0]["time_to_first_token_seconds"]["count"], 6);
  EXPECT_GT(json[0]["latency_seconds"]["max"], 0);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 6u);
  for (const v1::GenerateRequest& request : requests) {
    EXPECT_EQ(request.token_ids().ids_size(), 10);
    for (const int id : request.token_ids().ids()) {
      EXPECT_GE(id, 0);
      EXPECT_LT(id, 50);
    }
    EXPECT_EQ(request.stopping().max_tokens(), 2);
  }
  EXPECT_NE(requests[0].DebugString(), requests[1].DebugString());
  const Outcome open = Sluice(server, {"load", "--rate=1000", "--duration=0.01"});
  EXPECT_EQ(open.exit_code, kExitOk) << open.err;
  EXPECT_THAT(open.out, HasSubstr("first token"));
}

TEST(CliTest, LoadFailsIfNoRequestSucceeds) {
  FakeServer server;
  server.OnGenerate([](const auto&, EventWriter&) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  });
  const Outcome outcome = Sluice(server, {"load", "--requests=3"});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_THAT(outcome.out, HasSubstr("0 ok, 3 failed with RESOURCE_EXHAUSTED"));
  EXPECT_EQ(outcome.err, "sluice: RESOURCE_EXHAUSTED: full\n");
}

// Refuses every other call, to come back after a millisecond.
void RefuseEveryOther(FakeServer& server) {
  server.OnGenerateCall(
      [calls = std::make_shared<std::atomic<int>>(0)](
          grpc::ServerContext& context, const v1::GenerateRequest& request, EventWriter& writer) {
        if (++*calls % 2 == 0) return client::SayHello(request, writer);
        context.AddTrailingMetadata("grpc-retry-pushback-ms", "1");
        return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
      });
}

TEST(CliTest, GenerateTriesAgainAndSaysSo) {
  FakeServer server;
  RefuseEveryOther(server);
  const Outcome outcome = Sluice(server, {"generate", "hi"});
  EXPECT_EQ(outcome.exit_code, kExitOk);
  EXPECT_EQ(outcome.out, "Hello, world!\n");
  EXPECT_THAT(outcome.err, StartsWith("sluice: RESOURCE_EXHAUSTED; trying again in 0.0 s\n"));
  EXPECT_EQ(Sluice(server, {"generate", "hi", "--retries=0"}).exit_code, kExitError);
}

TEST(CliTest, LoadCountsWhatWasRefusedAndWhatWasTriedAgain) {
  FakeServer server;
  RefuseEveryOther(server);
  const auto refused = JsonLines(Sluice(server, {"load", "--requests=10", "--json"}).out);
  EXPECT_EQ(refused[0]["ok"], 5);
  EXPECT_EQ(refused[0]["failed"], nlohmann::json({{"RESOURCE_EXHAUSTED", 5}}));
  EXPECT_EQ(refused[0]["refused"], 5);
  EXPECT_EQ(refused[0]["retries"], 0);
  EXPECT_EQ(refused[0]["refusal_seconds"]["count"], 5);
  EXPECT_GT(refused[0]["refusal_seconds"]["p99"], 0);
  const auto retried =
      JsonLines(Sluice(server, {"load", "--requests=10", "--retries=1", "--json"}).out);
  EXPECT_EQ(retried[0]["ok"], 10);
  EXPECT_EQ(retried[0]["refused"], 0);
  EXPECT_EQ(retried[0]["retries"], 10);
}

TEST(CliTest, LoadUsesItsConnectionsInTurn) {
  FakeServer server;
  const auto json = JsonLines(
      Sluice(server, {"load", "--requests=12", "--concurrency=3", "--connections=4", "--json"})
          .out);
  EXPECT_EQ(json[0]["ok"], 12);
  EXPECT_EQ(server.num_peers(), 4u);
}

TEST(CliTest, LoadCancelsItsShare) {
  FakeServer server;
  server.OnGenerate([](const v1::GenerateRequest& request, EventWriter& writer) {
    // Only a cancellation ends these.
    return client::TalkForever(request, writer);
  });
  const auto all = JsonLines(Sluice(server, {"load", "--requests=8", "--concurrency=8",
                                             "--cancel_share=1", "--cancel_within=0.01", "--json"})
                                 .out);
  EXPECT_EQ(all[0]["failed"], nlohmann::json({{"CANCELLED", 8}}));
  EXPECT_EQ(all[0]["refused"], 0);
  server.OnGenerate(client::SayHello);
  // Those that have ended are not cancelled any more.
  const auto none = JsonLines(Sluice(server, {"load", "--requests=8", "--cancel_share=1",
                                              "--cancel_within=10000", "--json"})
                                  .out);
  EXPECT_EQ(none[0]["ok"], 8);
}

TEST(CliTest, HealthExitsWithZeroOnlyIfServing) {
  FakeServer server;
  EXPECT_EQ(Sluice(server, {"health"}).exit_code, kExitOk);
  server.SetServing("sluice.v1.Generation", false);
  const Outcome outcome = Sluice(server, {"health", "--service=sluice.v1.Generation"});
  EXPECT_EQ(outcome.exit_code, kExitError);
  EXPECT_EQ(outcome.err, "sluice: UNAVAILABLE: sluice.v1.Generation is NOT_SERVING\n");
}

}  // namespace
}  // namespace sluice::cli
