#include "base/socket_path.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::base {
namespace {

TEST(SocketPathTest, FitsIntoAnAddressAndMeansNothingElse) {
  for (const std::string& good :
       {std::string("/run/sluice.sock"), std::string("relative"), std::string("./a"),
        std::string("/ä"), std::string("/a:1"), std::string(107, 'a')}) {
    EXPECT_TRUE(IsSocketPath(good)) << good;
  }
  for (const std::string& bad :
       {std::string(""), std::string("/"), std::string("a/"), std::string("//host/a"),
        std::string("/a b"), std::string("/a\tb"), std::string("/a\0b", 4), std::string("/a%41"),
        std::string("/a?b"), std::string("/a#b"), std::string(108, 'a')}) {
    EXPECT_FALSE(IsSocketPath(bad)) << bad;
  }
}

}  // namespace
}  // namespace sluice::base
