#include "cli/token_secrecy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "certificate.h"
#include "cli/cli.h"
#include "support/temp_folder.h"

namespace sluice::cli {
namespace {

TEST(TokenSecrecyTest, OnlySocketsAndLoopbackAddressesAreOnThisMachine) {
  for (const char* address :
       {"unix:/run/sluice.sock", "unix:relative", "localhost:1", "localhost", "127.0.0.1:50051",
        "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "dns:///localhost:1", "dns:127.0.0.1:1",
        "dns://8.8.8.8/localhost:1", "ipv4:127.0.0.1:1,127.0.0.2:2", "ipv6:[::1]:1",
        "127.0.0.1:1,127.0.0.1:2"}) {
    EXPECT_TRUE(IsOnThisMachine(address)) << address;
  }
  for (const char* address :
       {"10.0.0.1:1", "0.0.0.0:1", "sluice:50051", "localhost.example:1", "127.0.0.1.example:1",
        "[::]:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1", "dns:///sluice:1",
        "dns://localhost/sluice:1", "ipv4:127.0.0.1:1,10.0.0.1:1", "127.0.0.1:1,10.0.0.1:2", ""}) {
    EXPECT_FALSE(IsOnThisMachine(address)) << address;
  }
}

TEST(TokenSecrecyTest, ATokenThatLeavesTheMachineWithoutTlsIsWarnedOf) {
  const testing::TempFolder folder;
  const std::string token = "--token_file=" + folder.File("token", "secret\n");
  const struct {
    std::vector<std::string> flags;
    bool is_warned_of;
  } rows[] = {
      {{token, "--address=0.0.0.0:1"}, true},
      {{token, "--address=127.0.0.1:1"}, false},
      {{token, "--address=unix:" + folder.Path("s")}, false},
      {{"--address=0.0.0.0:1"}, false},
      {{token, "--tls_ca=" + folder.File("ca", client::kCertificate), "--address=0.0.0.0:1"},
       false},
  };
  for (const auto& row : rows) {
    std::istringstream in;
    std::ostringstream out;
    std::ostringstream err;
    Console console{.in = in, .out = out, .err = err};
    std::vector<std::string> arguments = {"info", "--retries=0", "--timeout=0.001"};
    arguments.insert(arguments.end(), row.flags.begin(), row.flags.end());
    // There is no server; what is said is said before.
    EXPECT_EQ(RunCli(arguments, console), kExitError);
    EXPECT_EQ(err.str().find("sluice: warning: without --tls_ca the token can be read on its way "
                             "to 0.0.0.0:1\n") == 0,
              row.is_warned_of)
        << err.str();
    EXPECT_EQ(err.str().find("secret"), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice::cli
