// Finds the tensor files of a Hugging Face folder, maps them and makes their tensors findable.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/mapped_file.h"
#include "model/tensor_finder.h"

namespace sluice::model {

struct TensorFiles {
  std::vector<MappedFile> maps;
  // Its views point into `maps`.
  TensorFinder finder;
};

// Opens `folder`/model.safetensors or, if there is none, the shards that
// model.safetensors.index.json names:
//
//   {"metadata": {...}, "weight_map": {"<tensor>": "model-00001-of-00003.safetensors", ...}}
//
// Index and shards must agree: each tensor is in the shard that the index says and in no other, and
// no further shard lies in the folder. A tensor that the index leaves out is not part of the
// checkpoint. Errors as in Checkpoint::Open.
absl::StatusOr<TensorFiles> OpenTensorFiles(const std::string& folder);

}  // namespace sluice::model
