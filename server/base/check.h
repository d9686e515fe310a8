// CHECK and DCHECK: for what only a bug of our own can break. What the network, a file or a user
// can do is a Status.
#pragma once

namespace sluice::base {

// Writes "file:line: CHECK failed: expression" to standard error, behind what was logged, and
// aborts: also if nobody reads it, after two seconds.
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression);

}  // namespace sluice::base

#define CHECK(expression)                               \
  (static_cast<bool>(expression) ? static_cast<void>(0) \
                                 : ::sluice::base::CheckFailed(__FILE__, __LINE__, #expression))

// Like CHECK, in debug builds only.
#ifdef NDEBUG
#define DCHECK(expression) static_cast<void>(sizeof(static_cast<bool>(expression)))
#else
#define DCHECK(expression) CHECK(expression)
#endif
