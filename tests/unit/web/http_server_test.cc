#include "web/http_server.h"

#include <civetweb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "connection.h"

namespace sluice::web {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Answers with the path.
HttpResponse Echo(absl::string_view path) { return {.body = std::string(path)}; }

std::unique_ptr<HttpServer> Start(HttpServer::Handler handler, const HttpLimits& limits = {}) {
  auto server = HttpServer::Start("127.0.0.1:0", std::move(handler), limits);
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST(HttpServerTest, AnswersOnTheFreePortItReports) {
  const auto server = Start(Echo);
  EXPECT_GT(server->port(), 0);
  EXPECT_EQ(server->address(), absl::StrCat("127.0.0.1:", server->port()));
  EXPECT_THAT(
      Ask(server->port(), "/some/path?and=query"),
      AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 10\r\n"),
            HasSubstr("Cache-Control: no-store\r\n"),
            HasSubstr("X-Content-Type-Options: nosniff\r\n"), EndsWith("\r\n\r\n/some/path")));
}

TEST(HttpServerTest, SendsStatusTypeAndHeaders) {
  const auto server = Start([](absl::string_view) {
    return HttpResponse{
        .status = 503, .content_type = "text/x", .body = "no", .headers = {"A: b", "C: d"}};
  });
  EXPECT_THAT(Ask(server->port(), "/"),
              AllOf(StartsWith("HTTP/1.1 503 Service Unavailable\r\n"),
                    HasSubstr("Content-Type: text/x\r\n"), HasSubstr("A: b\r\nC: d\r\n"),
                    EndsWith("\r\n\r\nno")));
}

TEST(HttpServerTest, HeadIsGetWithoutItsBody) {
  const auto server = Start(Echo);
  EXPECT_THAT(
      Ask(server->port(), "/abc", "HEAD"),
      AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Length: 4\r\n"), EndsWith("\r\n\r\n")));
}

TEST(HttpServerTest, OtherMethodsAreNotAllowed) {
  const auto server = Start(Echo);
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"}) {
    EXPECT_THAT(Ask(server->port(), "/", method),
                AllOf(StartsWith("HTTP/1.1 405"), HasSubstr("\r\nAllow: GET, HEAD\r\n")))
        << method;
  }
}

TEST(HttpServerTest, WhatIsNoRequestIsRefused) {
  const auto server = Start(Echo);
  for (const char* request :
       {"GET / HTTP/9.9\r\n\r\n", "BREW / HTTP/1.1\r\nHost: x\r\n\r\n", "GET\r\n\r\n",
        "\x16\x03\x01\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"}) {
    Connection connection(server->port());
    connection.Send(request);
    EXPECT_THAT(connection.ReadAll(), Not(HasSubstr(" 200 "))) << request;
  }
  EXPECT_THAT(Ask(server->port(), "/"), StartsWith("HTTP/1.1 200"));
}

TEST(HttpServerTest, AHeadThatIsTooLongIsRefused) {
  const auto server = Start(Echo, {.max_head_bytes = 2048});
  Connection short_enough(server->port());
  short_enough.Send(
      absl::StrCat("GET / HTTP/1.1\r\nA: ", std::string(1024, 'a'), "\r\nHost: x\r\n\r\n"));
  EXPECT_THAT(short_enough.ReadAll(), StartsWith("HTTP/1.1 200"));
  Connection too_long(server->port());
  too_long.Send(absl::StrCat("GET / HTTP/1.1\r\nA: ", std::string(8192, 'a')));
  EXPECT_THAT(too_long.ReadAll(), Not(HasSubstr(" 200 ")));
}

TEST(HttpServerTest, ABodyIsNotWaitedFor) {
  // Whoever waited would do so for ever.
  const auto server = Start(Echo, {.idle_timeout = absl::Hours(1)});
  for (const char* method : {"GET", "POST"}) {
    Connection connection(server->port());
    connection.Send(
        absl::StrCat(method, " / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"));
    EXPECT_THAT(connection.ReadAll(), StartsWith("HTTP/1.1 "));
  }
}

TEST(HttpServerTest, WhoSaysNothingIsCutOff) {
  const auto server = Start(Echo, {.num_threads = 2, .idle_timeout = absl::Milliseconds(50)});
  std::vector<std::unique_ptr<Connection>> silent;
  for (int i = 0; i < 8; ++i) {
    silent.push_back(std::make_unique<Connection>(server->port()));
    if (i % 2 == 0) silent.back()->Send("GET / HTTP/1.1\r\nHos");
  }
  // Its turn comes when those before it were cut off.
  EXPECT_THAT(Ask(server->port(), "/"), StartsWith("HTTP/1.1 200"));
  for (const auto& connection : silent) {
    EXPECT_THAT(connection->ReadAll(), Not(HasSubstr(" 200 ")));
  }
}

TEST(HttpServerTest, WhoSpeaksTooSlowlyIsCutOff) {
  const auto server = Start(Echo, {.num_threads = 1, .idle_timeout = absl::Milliseconds(100)});
  Connection slow(server->port());
  slow.Send("GET / HTTP/1.1\r\nA: ");
  while (!slow.IsClosed()) slow.Send("a");
  EXPECT_THAT(Ask(server->port(), "/"), StartsWith("HTTP/1.1 200"));
}

TEST(HttpServerTest, WhoReadsNothingIsCutOff) {
  const auto server =
      Start([](absl::string_view) { return HttpResponse{.body = std::string(64 << 20, 'a')}; },
            {.num_threads = 1, .idle_timeout = absl::Milliseconds(50)});
  Connection lazy(server->port());
  lazy.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(Ask(server->port(), "/", "HEAD"), StartsWith("HTTP/1.1 200"));
}

TEST(HttpServerTest, WhoReadsTooSlowlyIsCutOff) {
  const auto server =
      Start([](absl::string_view) { return HttpResponse{.body = std::string(64 << 20, 'a')}; },
            {.num_threads = 1,
             .idle_timeout = absl::Seconds(10),
             .answer_timeout = absl::Milliseconds(100)});
  Connection slow(server->port());
  slow.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  size_t sips = 0;
  while (!slow.IsClosed()) ++sips;
  EXPECT_LT(sips, (size_t{64} << 20) / Connection::kSipBytes);
  EXPECT_THAT(Ask(server->port(), "/", "HEAD"), StartsWith("HTTP/1.1 200"));
}

TEST(HttpServerTest, EndsWhileClientsDoNothing) {
  for (const char* address : {"127.0.0.1:0", "localhost:0", ":0", "0.0.0.0:0"}) {
    SCOPED_TRACE(address);
    // Whoever waited for them would do so for an hour.
    auto server = HttpServer::Start(
        address, [](absl::string_view) { return HttpResponse{.body = std::string(64 << 20, 'a')}; },
        {.num_threads = 2, .idle_timeout = absl::Hours(1), .answer_timeout = absl::Hours(1)});
    ASSERT_TRUE(server.ok()) << server.status();
    const int port = (*server)->port();
    Connection silent(port), lazy(port), waiting(port);
    lazy.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    server->reset();
    EXPECT_EQ(silent.ReadAll(), "");
    EXPECT_LT(lazy.ReadAll().size(), size_t{64} << 20);
    EXPECT_EQ(Ask(port, "/"), "");
  }
}

TEST(HttpServerTest, ItsEndIsNobodyElses) {
  auto server = Start(Echo);
  const int port = server->port();
  // Another one on the same port of another address, which has a request that it has not answered.
  std::promise<void> asked, answer;
  const auto other = HttpServer::Start(absl::StrCat("127.0.0.2:", port), [&](absl::string_view) {
    asked.set_value();
    answer.get_future().wait();
    return HttpResponse{.body = "late"};
  });
  ASSERT_TRUE(other.ok()) << other.status();
  // It comes from the same port, too.
  Connection client(port, "127.0.0.2", "127.0.0.3");
  ASSERT_TRUE(client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  asked.get_future().wait();
  Connection early(port, "127.0.0.2");
  server.reset();
  answer.set_value();
  EXPECT_THAT(client.ReadAll(), EndsWith("late"));
  EXPECT_TRUE(early.Send("GET"));
  EXPECT_FALSE(early.IsClosed());
  EXPECT_TRUE(Connection(port, "127.0.0.2").is_open());
}

TEST(HttpServerTest, TakesEveryFormOfAddress) {
  for (const char* address : {"localhost:0", ":0", "0.0.0.0:0"}) {
    auto server = HttpServer::Start(address, Echo);
    ASSERT_TRUE(server.ok()) << address << ": " << server.status();
    EXPECT_THAT(Ask((*server)->port(), "/"), StartsWith("HTTP/1.1 200")) << address;
  }
}

TEST(HttpServerTest, APortInUseIsAnErrorThatNamesIt) {
  const auto first = Start(Echo);
  const auto second = HttpServer::Start(first->address(), Echo);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(first->address()));
}

TEST(HttpServerTest, ABadAddressIsAnErrorThatNamesIt) {
  for (const char* address :
       {"", "9090", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536",
        "no such host:0", "300.0.0.1:0", "[127.0.0.1]:0", "[::1:0", "::1:0"}) {
    const auto server = HttpServer::Start(address, Echo);
    EXPECT_FALSE(server.ok()) << address;
    EXPECT_THAT(std::string(server.status().message()), HasSubstr(address));
  }
}

TEST(HttpServerTest, WithoutIPv6InTheLibraryThatIsSaid) {
  const auto server = HttpServer::Start("[::1]:0", Echo);
  const bool has_ipv6 = mg_check_feature(MG_FEATURES_IPV6) != 0;
  EXPECT_EQ(absl::IsUnimplemented(server.status()), !has_ipv6) << server.status();
}

}  // namespace
}  // namespace sluice::web
