#include "api/unix_socket.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "support/temp_folder.h"

namespace sluice::api {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TempFolder;

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  EXPECT_LT(path.size(), sizeof(address.sun_path));
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// A socket at `path`, as a server has it or, once closed, leaves it behind.
int Listen(const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(fd, 64), 0);
  return fd;
}
int ListenFor(const SocketFile& socket) { return Listen(SocketPathOf(socket.first_address())); }

bool CanConnect(const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  const int result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  close(fd);
  return result == 0;
}

std::unique_ptr<SocketFile> Create(const std::string& path) {
  auto made = SocketFile::Create(path);
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

std::vector<std::string> NamesIn(const TempFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

TEST(UnixSocketTest, FindsThePathInAnAddress) {
  EXPECT_EQ(SocketPathOf("unix:/run/x"), "/run/x");
  EXPECT_EQ(SocketPathOf("127.0.0.1:1"), "");
}

TEST(UnixSocketTest, GetsItsNameAndLosesItAgain) {
  const TempFolder folder;
  // As long as an address can be.
  std::string longest = folder.Path("");
  longest.resize(sizeof(sockaddr_un::sun_path) - 1, 'x');
  for (const std::string& path : {folder.Path("s"), longest}) {
    auto socket = Create(path);
    const int fd = ListenFor(*socket);
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_TRUE(socket->Publish().ok());
    EXPECT_TRUE(CanConnect(path));
    EXPECT_THAT(NamesIn(folder), ::testing::SizeIs(1));
    socket->Remove();
    socket->Remove();
    EXPECT_THAT(NamesIn(folder), IsEmpty());
    close(fd);
  }
}

TEST(UnixSocketTest, OnlyASocketThatNobodyListensOnIsReplaced) {
  const TempFolder folder;
  const std::string path = folder.Path("s");
  const int first = Listen(path);
  {
    auto socket = Create(path);
    const int fd = ListenFor(*socket);
    const absl::Status status = socket->Publish();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(status.message(),
              absl::StrCat("--listen=unix:", path, ": another server listens on it"));
    close(fd);
  }
  EXPECT_TRUE(CanConnect(path));
  EXPECT_THAT(NamesIn(folder), ::testing::SizeIs(1));
  close(first);
  EXPECT_FALSE(CanConnect(path));
  auto socket = Create(path);
  const int fd = ListenFor(*socket);
  EXPECT_TRUE(socket->Publish().ok());
  EXPECT_TRUE(CanConnect(path));
  close(fd);
}

TEST(UnixSocketTest, WhatIsNoSocketStays) {
  const TempFolder folder;
  const std::string file = folder.File("file", "precious");
  const std::string subfolder = folder.Path("folder");
  std::filesystem::create_directory(subfolder);
  const std::string link = folder.Path("link");
  std::filesystem::create_symlink(file, link);
  for (const std::string& path : {file, subfolder, link}) {
    auto socket = Create(path);
    const int fd = ListenFor(*socket);
    const absl::Status status = socket->Publish();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    EXPECT_TRUE(std::filesystem::exists(path));
    close(fd);
  }
  const absl::Status status = SocketFile::Create("/no/such/folder/s").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--listen=unix:/no/such/folder/s"));
}

TEST(UnixSocketTest, AnothersSocketOfTheSameNameIsNotRemoved) {
  const TempFolder folder;
  const std::string path = folder.Path("s");
  auto socket = Create(path);
  const int fd = ListenFor(*socket);
  ASSERT_TRUE(socket->Publish().ok());
  // As an operator does who moves a server out of the way.
  std::filesystem::rename(path, folder.Path("moved"));
  auto successor = Create(path);
  const int successor_fd = ListenFor(*successor);
  ASSERT_TRUE(successor->Publish().ok());
  socket.reset();
  close(fd);
  EXPECT_TRUE(CanConnect(path));
  successor.reset();
  close(successor_fd);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(UnixSocketTest, OfServersThatStartAtTheSameTimeOneGetsTheName) {
  constexpr int kServers = 8;
  for (int round = 0; round < 50; ++round) {
    const TempFolder folder;
    const std::string path = folder.Path("s");
    // Which a server left behind that was killed.
    close(Listen(path));
    std::latch start(kServers);
    std::latch all_tried(kServers);
    std::latch all_connected(kServers);
    std::atomic<int> num_published{0};
    std::vector<std::thread> servers;
    for (int i = 0; i < kServers; ++i) {
      servers.emplace_back([&] {
        const auto socket = Create(path);
        const int fd = ListenFor(*socket);
        start.arrive_and_wait();
        if (socket->Publish().ok()) ++num_published;
        all_tried.arrive_and_wait();
        EXPECT_TRUE(CanConnect(path));
        all_connected.arrive_and_wait();
        close(fd);
      });
    }
    for (std::thread& server : servers) server.join();
    EXPECT_EQ(num_published, 1);
  }
}

TEST(UnixSocketTest, ASocketHasItsPermissionsFromTheStart) {
  const TempFolder folder;
  for (const int mode : {0600, 0660, 0777}) {
    const std::string path = folder.Path(absl::StrCat(mode));
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
