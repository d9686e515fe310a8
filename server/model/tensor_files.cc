#include "model/tensor_files.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/json.h"

namespace sluice::model {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
// As for a header: the index of a model has one short line per tensor, like the headers of its
// shards.
constexpr size_t kMaxIndexBytes = kMaxSafetensorsHeaderBytes;

// The names of the tensors in each shard.
using ShardMap = std::map<std::string, std::set<std::string>>;

absl::StatusOr<TensorFiles> OpenSingle(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile map, MappedFile::Open(path));
  ASSIGN_OR_RETURN(std::vector<TensorEntry> tensors, ParseSafetensors(path, map.bytes()));
  map.AdviseSequential();
  TensorFiles files{{}, TensorFinder(path)};
  RETURN_IF_ERROR(files.finder.Add(path, std::move(tensors)));
  files.maps.push_back(std::move(map));
  return files;
}

bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && !absl::StrContains(name, '/') &&
         !absl::StrContains(name, '\0');
}

absl::StatusOr<ShardMap> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile map, MappedFile::Open(path));
  if (map.bytes().size() > kMaxIndexBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has more than the limit of ", kMaxIndexBytes, " bytes"));
  }
  ASSIGN_OR_RETURN(const Json json, ParseJsonObject(path, map.text()));
  const JsonObject index(path, json);
  const Json* weight_map = index.Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object() || weight_map->empty()) {
    return index.Invalid("weight_map", "an object that names each tensor's file");
  }
  ShardMap shards;
  for (const auto& [tensor, shard] : weight_map->items()) {
    if (!shard.is_string() || !IsPlainFileName(shard.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": weight_map has ", Describe(shard),
                                                     " for tensor ", Describe(tensor),
                                                     ", must be a file name without a path"));
    }
    shards[shard.get<std::string>()].insert(tensor);
  }
  return shards;
}

// A shard that the index does not know is a sign of a folder that mixes two checkpoints.
absl::Status CheckNoStrayShards(const std::string& folder, const ShardMap& shards) {
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool is_shard = absl::StartsWith(name, "model-") && absl::StrContains(name, "-of-") &&
                          absl::EndsWith(name, ".safetensors");
    if (is_shard && shards.count(name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder, "/", name, ": is a shard that ", kIndexFile, " does not name"));
    }
  }
  return absl::OkStatus();
}

// Maps one shard and adds those of its tensors that the index puts there.
absl::Status AddShard(const std::string& path, const std::set<std::string>& expected,
                      const ShardMap& shards, TensorFiles& files) {
  ASSIGN_OR_RETURN(MappedFile map, MappedFile::Open(path));
  ASSIGN_OR_RETURN(std::vector<TensorEntry> tensors, ParseSafetensors(path, map.bytes()));
  map.AdviseSequential();
  std::set<std::string> present;
  for (const TensorEntry& tensor : tensors) {
    present.insert(tensor.name);
    if (expected.count(tensor.name) != 0) continue;
    for (const auto& [shard, names] : shards) {
      if (names.count(tensor.name) == 0) continue;
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", Describe(tensor.name),
                                                     " is also in ", shard, ", where ", kIndexFile,
                                                     " puts it"));
    }
  }
  for (const std::string& name : expected) {
    if (present.count(name) == 0) {
      return absl::NotFoundError(absl::StrCat(path, ": tensor ", Describe(name),
                                              " is missing, which ", kIndexFile, " puts there"));
    }
  }
  const auto unlisted = [&](const TensorEntry& t) { return expected.count(t.name) == 0; };
  tensors.erase(std::remove_if(tensors.begin(), tensors.end(), unlisted), tensors.end());
  RETURN_IF_ERROR(files.finder.Add(path, std::move(tensors)));
  files.maps.push_back(std::move(map));
  return absl::OkStatus();
}

absl::StatusOr<TensorFiles> OpenShards(const std::string& folder, const std::string& index) {
  ASSIGN_OR_RETURN(const ShardMap shards, ReadIndex(index));
  RETURN_IF_ERROR(CheckNoStrayShards(folder, shards));
  TensorFiles files{{}, TensorFinder(index)};
  for (const auto& [shard, tensors] : shards) {
    RETURN_IF_ERROR(AddShard(absl::StrCat(folder, "/", shard), tensors, shards, files));
  }
  return files;
}

}  // namespace

absl::StatusOr<TensorFiles> OpenTensorFiles(const std::string& folder) {
  const std::string single = absl::StrCat(folder, "/", kSingleFile);
  const std::string index = absl::StrCat(folder, "/", kIndexFile);
  std::error_code error;
  if (std::filesystem::exists(single, error)) return OpenSingle(single);
  if (std::filesystem::exists(index, error)) return OpenShards(folder, index);
  return absl::NotFoundError(
      absl::StrCat(folder, ": has neither ", kSingleFile, " nor ", kIndexFile));
}

}  // namespace sluice::model
