#include "model/tensor_finder.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/json.h"

namespace sluice::model {
namespace {

std::optional<DType> ToDType(const std::string& name) {
  if (name == "F32") return DType::kF32;
  if (name == "F16") return DType::kF16;
  if (name == "BF16") return DType::kBf16;
  return std::nullopt;
}

std::string Brackets(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace

absl::Status TensorFinder::Add(const std::string& file, std::vector<TensorEntry> tensors) {
  for (TensorEntry& tensor : tensors) {
    const std::string name = tensor.name;
    const auto [other, is_new] = tensors_.try_emplace(name, Located{file, std::move(tensor)});
    if (is_new) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": tensor ", Describe(name), " is also in ", other->second.file));
  }
  return absl::OkStatus();
}

const std::string* TensorFinder::FileOf(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second.file;
}

absl::StatusOr<TensorView> TensorFinder::Matrix(const std::string& name, int64_t rows,
                                                int64_t cols) const {
  return Take(name, {rows, cols});
}

absl::StatusOr<TensorView> TensorFinder::Vector(const std::string& name, int64_t size) const {
  return Take(name, {size});
}

absl::StatusOr<TensorView> TensorFinder::Take(const std::string& name,
                                              const std::vector<int64_t>& shape) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat(source_, ": tensor \"", name, "\" is missing"));
  }
  const auto& [file, entry] = it->second;
  const std::optional<DType> dtype = ToDType(entry.dtype);
  if (!dtype) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": tensor \"", name, "\" has the dtype ",
                                                   entry.dtype, ", expected F32, F16 or BF16"));
  }
  if (entry.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": tensor \"", name, "\" has the shape ",
                                                   Brackets(entry.shape), ", expected ",
                                                   Brackets(shape)));
  }
  return TensorView{.dtype = *dtype,
                    .rows = shape.size() == 2 ? shape[0] : 1,
                    .cols = shape.back(),
                    .data = entry.data.data()};
}

}  // namespace sluice::model
