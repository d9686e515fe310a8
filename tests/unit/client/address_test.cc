#include "client/address.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::client {
namespace {

TEST(AddressTest, OneServerIsLeftAsItIs) {
  for (const std::string address :
       {"127.0.0.1:50051", "[::1]:50051", "host", "unix:/run/a,b.sock", ""}) {
    const auto target = ParseAddress(address);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(target->uri, address);
    EXPECT_FALSE(target->balanced) << address;
  }
}

TEST(AddressTest, SeveralServersAreBalanced) {
  struct Case {
    const char* address;
    const char* uri;
  };
  const std::vector<Case> cases = {
      {"10.0.0.1:1,10.0.0.2:65535", "ipv4:10.0.0.1:1,10.0.0.2:65535"},
      {"[::1]:1,[fe80::2]:2", "ipv6:[::1]:1,[fe80::2]:2"},
      {"ipv4:10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"},
      {"dns:///sluice.example:50051", "dns:///sluice.example:50051"},
  };
  for (const Case& c : cases) {
    const auto target = ParseAddress(c.address);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(target->uri, c.uri);
    EXPECT_TRUE(target->balanced) << c.address;
  }
}

TEST(AddressTest, WhatCannotBeListedIsRefusedWithItsText) {
  for (const std::string address :
       {"a:1,b:2", "10.0.0.1:1,", ",", "10.0.0.1:1,[::1]:1", "10.0.0.1,10.0.0.2",
        "10.0.0.1:1,10.0.0.2:0", "10.0.0.1:1,10.0.0.2:65536", "10.0.0.1:1, 10.0.0.2:2",
        "[::1:1,[::1]:1", "]:1,[:1"}) {
    const auto target = ParseAddress(address);
    EXPECT_TRUE(absl::IsInvalidArgument(target.status())) << address;
    EXPECT_NE(std::string(target.status().message()).find(address), std::string::npos) << address;
  }
}

}  // namespace
}  // namespace sluice::client
