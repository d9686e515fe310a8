// TokenId: what the tokenizer makes of text and the model works on.
#pragma once

#include <cstdint>

namespace sluice {

// From 0 to vocabulary size - 1.
using TokenId = int32_t;

}  // namespace sluice
