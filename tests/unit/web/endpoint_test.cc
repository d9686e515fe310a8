#include "web/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "connection.h"
#include "web/page_files.h"

namespace sluice::web {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

HttpResponse Get(absl::string_view path, const metrics::ServerMetrics& metrics,
                 Readiness readiness = Readiness::kReady) {
  return Answer(path, metrics, {.readiness = readiness, .uptime = absl::Seconds(1)});
}

TEST(EndpointTest, EveryPathHasItsStatusTypeAndBeginning) {
  const metrics::ServerMetrics metrics({.version = "9.8.7"});
  struct Case {
    const char* path;
    int status;
    const char* type;
    const char* begin;
  };
  for (const Case& c :
       {Case{"/metrics", 200, "text/plain; version=0.0.4; charset=utf-8", "# HELP "},
        Case{"/healthz", 200, "text/plain; charset=utf-8", "ok\n"},
        Case{"/readyz", 200, "text/plain; charset=utf-8", "ready\n"},
        Case{"/experts.json", 200, "application/json", "{\"version\":\"9.8.7\""},
        Case{"/", 200, "text/html; charset=utf-8", "<!doctype html>"},
        Case{"/page.css", 200, "text/css; charset=utf-8", "/*"},
        Case{"/page.js", 200, "text/javascript; charset=utf-8", "//"},
        Case{"/icon.svg", 200, "image/svg+xml", "<svg"},
        Case{"/index.html", 404, "text/plain; charset=utf-8", "not found\n"},
        Case{"/metrics/", 404, "text/plain; charset=utf-8", "not found\n"},
        Case{"/etc/passwd", 404, "text/plain; charset=utf-8", "not found\n"},
        Case{"", 404, "text/plain; charset=utf-8", "not found\n"}}) {
    SCOPED_TRACE(c.path);
    const HttpResponse response = Get(c.path, metrics);
    EXPECT_EQ(response.status, c.status);
    EXPECT_EQ(response.content_type, c.type);
    EXPECT_THAT(response.body, StartsWith(c.begin));
  }
}

TEST(EndpointTest, ReadyOnlyWhileRequestsAreTaken) {
  const metrics::ServerMetrics metrics({});
  struct Case {
    Readiness readiness;
    int status;
    const char* word;
  };
  for (const Case& c :
       {Case{Readiness::kLoading, 503, "loading"}, Case{Readiness::kReady, 200, "ready"},
        Case{Readiness::kDraining, 503, "draining"}}) {
    SCOPED_TRACE(c.word);
    const HttpResponse response = Get("/readyz", metrics, c.readiness);
    EXPECT_EQ(response.status, c.status);
    EXPECT_EQ(response.body, std::string(c.word) + "\n");
    EXPECT_EQ(Get("/healthz", metrics, c.readiness).status, 200);
    EXPECT_THAT(Get("/experts.json", metrics, c.readiness).body,
                HasSubstr(std::string("\"state\":\"") + c.word + "\""));
  }
}

TEST(EndpointTest, ThePageMayLoadNothingFromElsewhere) {
  const metrics::ServerMetrics metrics({});
  for (const PageFile& file : PageFiles()) {
    SCOPED_TRACE(std::string(file.path));
    EXPECT_THAT(Get(file.path, metrics).headers,
                Contains(StartsWith("Content-Security-Policy: default-src 'none'; ")));
    // The one address in it is the name of a language.
    std::string text(file.bytes);
    const std::string svg = "http://www.w3.org/2000/svg";
    if (const size_t at = text.find(svg); at != std::string::npos) text.erase(at, svg.size());
    EXPECT_THAT(text, Not(HasSubstr("//www")));
    EXPECT_THAT(text, Not(HasSubstr("://")));
    // Names of models are strangers' texts.
    for (const char* maker : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"}) {
      EXPECT_THAT(text, Not(HasSubstr(maker)));
    }
  }
}

TEST(EndpointTest, WhatThePageLoadsIsThere) {
  const metrics::ServerMetrics metrics({});
  size_t num_found = 0;
  for (const PageFile& file : PageFiles()) {
    const std::string text(file.bytes);
    const std::regex reference(R"re((?:href="|src="|from '\./|fetch\(')([^"']+))re");
    for (std::sregex_iterator it(text.begin(), text.end(), reference), end; it != end; ++it) {
      ++num_found;
      EXPECT_EQ(Get("/" + (*it)[1].str(), metrics).status, 200) << (*it)[1];
    }
  }
  EXPECT_GE(num_found, PageFiles().size());
}

TEST(EndpointTest, ServesOnItsPort) {
  const metrics::ServerMetrics metrics({.version = "9.8.7"});
  std::atomic<Readiness> readiness{Readiness::kLoading};
  auto endpoint = Endpoint::Start("127.0.0.1:0", metrics, [&] { return readiness.load(); });
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const int port = (*endpoint)->port();
  EXPECT_THAT(Ask(port, "/metrics"), HasSubstr("version=\"9.8.7\""));
  EXPECT_THAT(Ask(port, "/readyz"), StartsWith("HTTP/1.1 503"));
  readiness = Readiness::kReady;
  EXPECT_THAT(Ask(port, "/readyz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Ask(port, "/other"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Ask(port, "/%2e%2e/%2e%2e/etc/passwd"), StartsWith("HTTP/1.1 4"));
  endpoint->reset();
  EXPECT_THAT(Ask(port, "/metrics"), IsEmpty());
}

TEST(EndpointTest, EachHasAStartOfItsOwnThatStays) {
  const metrics::ServerMetrics metrics({});
  std::vector<std::string> starts;
  for (int i = 0; i < 2; ++i) {
    auto endpoint = Endpoint::Start("127.0.0.1:0", metrics, [] { return Readiness::kReady; });
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    const auto start = [&] {
      const std::string text = Ask((*endpoint)->port(), "/experts.json");
      std::smatch found;
      EXPECT_TRUE(std::regex_search(text, found, std::regex(R"("start_time_seconds":([\d.]+),)")));
      return found[1].str();
    };
    starts.push_back(start());
    EXPECT_EQ(start(), starts.back());
  }
  EXPECT_NE(starts[0], starts[1]);
}

TEST(EndpointTest, AnswersWhileTheModelLoadsAndStepsAreRun) {
  metrics::ServerMetrics metrics({});
  auto endpoint = Endpoint::Start("127.0.0.1:0", metrics, [] { return Readiness::kReady; });
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  std::atomic<bool> loaded{false};
  const auto ask = [&](const char* path) {
    bool last = false;
    do {
      last = loaded;
      EXPECT_THAT(Ask((*endpoint)->port(), path), StartsWith("HTTP/1.1 200"));
    } while (!last);
  };
  std::thread scraper(ask, "/metrics"), viewer(ask, "/experts.json");
  metrics::ExpertLoad& load = metrics.AddExpertLoad({0}, 2, 1, metrics::ExpertMetrics::kPerExpert);
  metrics::EngineMetrics engine = metrics.Engine(load);
  metrics.SetModel({.name = "demo", .weights_bytes = {{"experts", 1}}});
  const std::vector<int32_t> tokens = {1, 1};
  const std::vector<float> floats = {1, 1};
  const std::vector<double> seconds = {0};
  for (int i = 0; i < 1000; ++i) {
    load.Publish({2, tokens, floats, floats, seconds});
    engine.step_seconds.Observe(0.001);
    engine.generation_tokens_total.Increment(2);
  }
  loaded = true;
  scraper.join();
  viewer.join();
  EXPECT_THAT(Ask((*endpoint)->port(), "/metrics"),
              HasSubstr("sluice_expert_tokens_total{layer=\"0\",expert=\"1\"} 1000\n"));
  EXPECT_THAT(Ask((*endpoint)->port(), "/experts.json"), HasSubstr("\"tokens\":[1000,1000]"));
}

}  // namespace
}  // namespace sluice::web
