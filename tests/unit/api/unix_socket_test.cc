#include "api/unix_socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace sluice::api {
namespace {

std::string NewPath(const std::string& name) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/socket_", name);
  std::filesystem::remove(path);
  return path;
}

// A socket at `path`, as a server has it or, once closed, leaves it behind.
int Listen(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(fd, 1), 0);
  return fd;
}

TEST(UnixSocketTest, FindsThePathInAnAddress) {
  EXPECT_EQ(SocketPathOf("unix:/run/x"), "/run/x");
  EXPECT_EQ(SocketPathOf("127.0.0.1:1"), "");
}

TEST(UnixSocketTest, OnlyASocketThatNobodyListensOnIsRemoved) {
  const std::string path = NewPath("stale");
  EXPECT_TRUE(ClearSocketPath(path).ok());
  const int fd = Listen(path);
  EXPECT_EQ(ClearSocketPath(path).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(std::filesystem::exists(path));
  close(fd);
  EXPECT_TRUE(ClearSocketPath(path).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(UnixSocketTest, WhatIsNoSocketStays) {
  const std::string file = NewPath("file");
  std::ofstream(file) << "precious";
  const std::string folder = NewPath("folder");
  std::filesystem::create_directory(folder);
  const std::string link = NewPath("link");
  std::filesystem::create_symlink(file, link);
  for (const std::string& path : {file, folder, link, std::string("/dev/null")}) {
    const absl::Status status = ClearSocketPath(path);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_NE(status.message().find(path), absl::string_view::npos);
    EXPECT_TRUE(std::filesystem::exists(path));
  }
}

TEST(UnixSocketTest, ASocketHasItsPermissionsFromTheStart) {
  for (const int mode : {0600, 0660, 0777}) {
    const std::string path = NewPath(absl::StrCat(mode));
    int fd;
    {
      const FileModeLimit limit(mode);
      fd = Listen(path);
    }
    struct stat found {};
    ASSERT_EQ(stat(path.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777, static_cast<mode_t>(mode));
    close(fd);
  }
}

}  // namespace
}  // namespace sluice::api
