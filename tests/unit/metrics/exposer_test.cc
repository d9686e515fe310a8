#include "metrics/exposer.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace sluice::metrics {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// The whole answer to GET `path` on the loopback address; empty if there is no connection.
std::string Get(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request =
        absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    if (write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
      char buffer[4096];
      for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
        answer.append(buffer, static_cast<size_t>(n));
      }
    }
  }
  close(fd);
  return answer;
}

TEST(ExposerTest, AnswersOnTheFreePortItReports) {
  ServerMetrics metrics({.version = "9.8.7"});
  auto exposer = Exposer::Start("127.0.0.1:0", metrics);
  ASSERT_TRUE(exposer.ok()) << exposer.status();
  EXPECT_GT((*exposer)->port(), 0);
  EXPECT_EQ((*exposer)->address(), absl::StrCat("127.0.0.1:", (*exposer)->port()));
  const std::string answer = Get((*exposer)->port(), "/metrics");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("version=\"9.8.7\""));
  EXPECT_THAT(Get((*exposer)->port(), "/other"), StartsWith("HTTP/1.1 404"));
}

TEST(ExposerTest, TakesEveryFormOfAddress) {
  ServerMetrics metrics({});
  for (const char* address : {"localhost:0", ":0", "0.0.0.0:0"}) {
    auto exposer = Exposer::Start(address, metrics);
    ASSERT_TRUE(exposer.ok()) << address << ": " << exposer.status();
    EXPECT_THAT(Get((*exposer)->port(), "/metrics"), StartsWith("HTTP/1.1 200")) << address;
  }
}

TEST(ExposerTest, StopsListeningWhenDestroyed) {
  ServerMetrics metrics({});
  auto exposer = Exposer::Start("127.0.0.1:0", metrics);
  ASSERT_TRUE(exposer.ok()) << exposer.status();
  const int port = (*exposer)->port();
  exposer->reset();
  EXPECT_EQ(Get(port, "/metrics"), "");
}

TEST(ExposerTest, APortInUseIsAnErrorThatNamesIt) {
  ServerMetrics metrics({});
  auto first = Exposer::Start("127.0.0.1:0", metrics);
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = Exposer::Start((*first)->address(), metrics);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr((*first)->address()));
}

TEST(ExposerTest, ABadAddressIsAnErrorThatNamesIt) {
  ServerMetrics metrics({});
  for (const char* address : {"", "9090", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1",
                              "127.0.0.1:65536", "no such host:0", "300.0.0.1:0"}) {
    auto exposer = Exposer::Start(address, metrics);
    EXPECT_FALSE(exposer.ok()) << address;
    EXPECT_THAT(std::string(exposer.status().message()), HasSubstr(address));
  }
}

TEST(ExposerTest, AnswersWhileTheModelLoadsAndStepsAreRun) {
  ServerMetrics metrics({});
  auto exposer = Exposer::Start("127.0.0.1:0", metrics);
  ASSERT_TRUE(exposer.ok()) << exposer.status();
  std::atomic<bool> loaded{false};
  std::thread scraper([&] {
    bool last = false;
    do {
      last = loaded;
      EXPECT_THAT(Get((*exposer)->port(), "/metrics"), StartsWith("HTTP/1.1 200"));
    } while (!last);
  });
  ExpertLoad& load = metrics.AddExpertLoad({0}, 2, 1, ExpertMetrics::kPerExpert);
  EngineMetrics engine = metrics.Engine(load);
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
  EXPECT_THAT(Get((*exposer)->port(), "/metrics"),
              HasSubstr("sluice_expert_tokens_total{layer=\"0\",expert=\"1\"} 1000\n"));
}

}  // namespace
}  // namespace sluice::metrics
