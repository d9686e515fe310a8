#include "client/address.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::client {
namespace {

TEST(AddressTest, OneServerIsLeftAsItIs) {
  for (const std::string address :
       {"127.0.0.1:50051", "127.0.0.1:1", "127.0.0.1:65535", "[::1]:80", "[fe80::1%eth0]:80",
        "sluice:80", "sluice-0.sluice_pods.example:80", "unix:/run/a,b.sock", "unix:a.sock",
        "unix:///run/a.sock"}) {
    const auto target = ParseAddress(address);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(target->uri, address);
    EXPECT_FALSE(target->balanced) << address;
    EXPECT_FALSE(target->is_list) << address;
  }
}

TEST(AddressTest, SeveralServersAreBalanced) {
  const struct {
    const char* address;
    const char* uri;
    bool is_list;
  } rows[] = {
      {"10.0.0.1:1,10.0.0.2:65535", "ipv4:10.0.0.1:1,10.0.0.2:65535", true},
      {"[::1]:1,[fe80::2]:2", "ipv6:[::1]:1,[fe80::2]:2", true},
      {"ipv4:10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2", true},
      {"ipv4:10.0.0.1:1", "ipv4:10.0.0.1:1", false},
      {"ipv6:[::1]:1", "ipv6:[::1]:1", false},
      {"dns:///sluice.example:50051", "dns:///sluice.example:50051", false},
      {"dns:sluice:1", "dns:sluice:1", false},
      {"dns://8.8.8.8/sluice:1", "dns://8.8.8.8/sluice:1", false},
  };
  for (const auto& row : rows) {
    const auto target = ParseAddress(row.address);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(target->uri, row.uri);
    EXPECT_TRUE(target->balanced) << row.address;
    EXPECT_EQ(target->is_list, row.is_list) << row.address;
  }
}

TEST(AddressTest, WhatIsOfNoFormIsRefusedWithItsText) {
  for (const std::string& address : std::vector<std::string>{
           // Lists.
           "a:1,b:2", "10.0.0.1:1,", ",", "10.0.0.1:1,[::1]:1", "10.0.0.1,10.0.0.2",
           "10.0.0.1:1,10.0.0.2:0", "10.0.0.1:1,10.0.0.2:65536", "10.0.0.1:1, 10.0.0.2:2",
           "10.0.0.1:1,10.0.0.2: 2", "10.0.0.1:1,10.0.0.2:+2", "[::1:1,[::1]:1", "]:1,[:1",
           "[fe80::1%eth0]:1,[::1]:1", "ipv4:[::1]:1", "ipv6:10.0.0.1:1", "ipv4:", "ipv4:a:1",
           "ipv6:::1:80",
           // Ports.
           "1.2.3.4", "1.2.3.4:", "1.2.3.4: 80", "1.2.3.4:80 ", "1.2.3.4:+80", "1.2.3.4:-80",
           "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:99999999999999999999", "1.2.3.4:http",
           "1.2.3.4:0x50", "host",
           // Hosts.
           "", ":", ":80", " :80", " 1.2.3.4:80", "1.2.3.4 :80", "a b:80", "::1:80", "[]:80",
           "[::1:80", "::1]:80", "[ ::1]:80", "[::1]", "[::1]80", "[host]:80", "[1.2.3.4]:80",
           "[fe80::1%]:80", "[fe80::1%a b]:80", "http://host:80", "user@host:80",
           // Names and sockets.
           "dns:", "dns:///", "dns:///sluice", "dns:///:80", "dns:///sluice:0", "dns:///a:1,b:2",
           "dns://sluice:80", "dns:///a b:80", "unix:", "unix:/", "unix://host/path", "unix:/run/",
           "unix:/a b", "unix:/a\n", "unix:/a#b", "unix:/a?b", "unix:/a%41",
           "unix:/" + std::string(107, 'x')}) {
    const auto target = ParseAddress(address);
    EXPECT_TRUE(absl::IsInvalidArgument(target.status())) << address;
    EXPECT_NE(std::string(target.status().message()).find(address), std::string::npos) << address;
  }
  EXPECT_TRUE(ParseAddress("unix:/" + std::string(106, 'x')).ok());
}

}  // namespace
}  // namespace sluice::client
