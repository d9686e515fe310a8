// Connection: a client of the web room's port that can be as slow and as wrong as it likes.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace sluice::web {

class Connection {
 public:
  // To an address of IPv4; is_open() says whether somebody listens. `from`: the address that it
  // comes from, with the same port as it goes to; without one the kernel chooses both.
  explicit Connection(int port, const char* address = "127.0.0.1", const char* from = nullptr);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool is_open() const { return fd_ >= 0; }
  // False once the other side is gone.
  bool Send(absl::string_view bytes);
  // Everything until the other side closes.
  std::string ReadAll();
  // Waits a moment for the other side to close, or for bytes, of which it drops kSipBytes at most.
  bool IsClosed();
  static constexpr size_t kSipBytes = 64;

 private:
  int fd_ = -1;
};

// The whole answer to `method` `path`; empty if there is no connection.
std::string Ask(int port, const std::string& path, const std::string& method = "GET");

}  // namespace sluice::web
