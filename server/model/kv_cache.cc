#include "model/kv_cache.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace sluice::model {

absl::StatusOr<KvCache> KvCache::Create(const Shape& shape, int64_t bytes) {
  const int64_t blocks =
      std::min<int64_t>(bytes / shape.block_bytes(), std::numeric_limits<BlockId>::max());
  if (blocks < 1) {
    return absl::InvalidArgumentError(absl::StrCat("the KV cache of ", bytes,
                                                   " bytes does not hold one block of ",
                                                   shape.block_bytes(), " bytes"));
  }
  ASSIGN_OR_RETURN(
      base::MappedMemory memory,
      base::MappedMemory::Reserve(blocks * shape.block_bytes(), base::MappedMemory::Pages::kHuge));
  return KvCache(shape, static_cast<int>(blocks), std::move(memory));
}

}  // namespace sluice::model
