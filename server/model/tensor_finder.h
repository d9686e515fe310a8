// TensorFinder: the tensors of all files of a checkpoint by name, checked as they are taken.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"

namespace sluice::model {

// Const methods may be called from any thread. Views live as long as the bytes that were added.
class TensorFinder {
 public:
  // `source` is named when a tensor is missing: the file that lists what there is.
  explicit TensorFinder(std::string source) : source_(std::move(source)) {}

  // INVALID_ARGUMENT if another file has a tensor of the same name.
  absl::Status Add(const std::string& file, std::vector<TensorEntry> tensors);

  bool Has(const std::string& name) const { return tensors_.contains(name); }
  // The file that has the tensor; nullptr if none has.
  const std::string* FileOf(const std::string& name) const;

  // NOT_FOUND if there is no such tensor; INVALID_ARGUMENT, naming file and tensor, what was
  // expected and what was found, if it has another shape or a dtype that is not F32, F16 or BF16.
  absl::StatusOr<TensorView> Matrix(const std::string& name, int64_t rows, int64_t cols) const;
  absl::StatusOr<TensorView> Vector(const std::string& name, int64_t size) const;

 private:
  struct Located {
    std::string file;
    TensorEntry entry;
  };

  absl::StatusOr<TensorView> Take(const std::string& name, const std::vector<int64_t>& shape) const;

  std::string source_;
  absl::flat_hash_map<std::string, Located> tensors_;
};

}  // namespace sluice::model
