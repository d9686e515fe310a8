#include "connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace sluice::web {
namespace {

template <typename Call>
bool Succeeds(Call call, int fd, const char* address, int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  return inet_pton(AF_INET, address, &to.sin_addr) == 1 &&
         call(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
}

}  // namespace

Connection::Connection(int port, const char* address, const char* from)
    : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  const bool is_bound = from == nullptr || Succeeds(bind, fd_, from, port);
  if (is_bound && Succeeds(connect, fd_, address, port)) return;
  close(fd_);
  fd_ = -1;
}

Connection::~Connection() {
  if (fd_ >= 0) close(fd_);
}

bool Connection::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::string Connection::ReadAll() {
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = read(fd_, buffer, sizeof(buffer))) > 0;) {
    all.append(buffer, static_cast<size_t>(n));
  }
  return all;
}

bool Connection::IsClosed() {
  pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
  if (poll(&waiting, 1, 5) <= 0) return false;
  char buffer[kSipBytes];
  return read(fd_, buffer, sizeof(buffer)) <= 0;
}

std::string Ask(int port, const std::string& path, const std::string& method) {
  Connection connection(port);
  if (!connection.is_open()) return "";
  connection.Send(absl::StrCat(method, " ", path, " HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  return connection.ReadAll();
}

}  // namespace sluice::web
