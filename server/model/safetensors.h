// The safetensors format: reads and validates the table of tensors at the front of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice::model {

// The header's largest size in bytes; the format's reference implementation has the same limit.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct TensorEntry {
  std::string name;
  // As the file spells it: "BF16". Need not be a type that Sluice knows.
  std::string dtype;
  std::vector<int64_t> shape;
  absl::Span<const std::byte> data;
};

// The tensors of a file whose contents are `bytes`, in the order in which their data lie there.
// Every entry is validated, and that the data of all together cover the data section without gap
// or overlap. Views point into `bytes`. INVALID_ARGUMENT names `file` and the tensor.
absl::StatusOr<std::vector<TensorEntry>> ParseSafetensors(absl::string_view file,
                                                          absl::Span<const std::byte> bytes);

}  // namespace sluice::model
