// Arithmetic of counts and sizes.
#pragma once

#include <cstdint>

namespace sluice::base {

// The least number of parts of size b that hold a. REQUIRES: a >= 0, b > 0.
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace sluice::base
