#include "model/checkpoint.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/families/families.h"
#include "model/generation_defaults.h"
#include "model/json.h"
#include "model/mapped_file.h"
#include "model/tensor_files.h"

namespace sluice::model {
namespace {

// Hub files have a few kilobytes.
constexpr size_t kMaxConfigBytes = 4 << 20;

class MappedCheckpoint : public Checkpoint {
 public:
  MappedCheckpoint(std::vector<MappedFile> maps, ModelConfig config, GenerationDefaults defaults,
                   ModelTensors tensors)
      : maps_(std::move(maps)),
        config_(std::move(config)),
        defaults_(std::move(defaults)),
        tensors_(std::move(tensors)) {}

  const ModelConfig& config() const override { return config_; }
  const GenerationDefaults& generation_defaults() const override { return defaults_; }
  const ModelTensors& tensors() const override { return tensors_; }

  void Release(const TensorView& tensor) const override {
    DropPages({tensor.data, tensor.bytes()});
  }

 private:
  const std::vector<MappedFile> maps_;
  const ModelConfig config_;
  const GenerationDefaults defaults_;
  const ModelTensors tensors_;  // views into maps_
};

absl::StatusOr<Json> ReadConfig(const std::string& path) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has more than the limit of ", kMaxConfigBytes, " bytes"));
  }
  return ParseJsonObject(path, file.text());
}

absl::StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::string& folder,
                                                          const JsonObject& config,
                                                          const Family& family) {
  const std::string path = absl::StrCat(folder, "/generation_config.json");
  const absl::StatusOr<Json> json = ReadConfig(path);
  if (absl::IsNotFound(json.status())) {
    return TranslateGenerationDefaults(config, nullptr, family.default_eos);
  }
  RETURN_IF_ERROR(json.status());
  const JsonObject generation(path, *json);
  return TranslateGenerationDefaults(config, &generation, family.default_eos);
}

absl::Status CheckFolder(const std::string& folder) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(folder, error);
  if (std::filesystem::is_directory(status)) return absl::OkStatus();
  if (std::filesystem::exists(status)) {
    return absl::InvalidArgumentError(absl::StrCat(folder, ": is not a folder"));
  }
  return absl::NotFoundError(absl::StrCat(folder, ": no such folder"));
}

}  // namespace

size_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& folder) {
  RETURN_IF_ERROR(CheckFolder(folder));
  const std::string config_path = absl::StrCat(folder, "/config.json");
  ASSIGN_OR_RETURN(const Json json, ReadConfig(config_path));
  const JsonObject config_json(config_path, json);
  ASSIGN_OR_RETURN(const Family* family, FindFamily(config_json));
  ASSIGN_OR_RETURN(ModelConfig config, family->translate(config_json));
  ASSIGN_OR_RETURN(GenerationDefaults defaults,
                   ReadGenerationDefaults(folder, config_json, *family));
  ASSIGN_OR_RETURN(TensorFiles files, OpenTensorFiles(folder));
  ASSIGN_OR_RETURN(ModelTensors tensors, family->bind(files.finder, config));
  config.tied_embeddings = tensors.lm_head.data == tensors.embedding.data;
  return std::make_unique<MappedCheckpoint>(std::move(files.maps), std::move(config),
                                            std::move(defaults), std::move(tensors));
}

}  // namespace sluice::model
