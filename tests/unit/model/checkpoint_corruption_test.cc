// Damaged checkpoints: each mutation of a sound one must end in the error that the table states.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint.h"
#include "tiny_checkpoint.h"

namespace sluice::model {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kNotFound = absl::StatusCode::kNotFound;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

constexpr char kTensors[] = "model.safetensors";
constexpr char kHead[] = "lm_head.weight";                  // the first in the file, 48 bytes
constexpr char kEmbedding[] = "model.embed_tokens.weight";  // the second
constexpr char kNorm[] = "model.norm.weight";               // the last, 16 bytes

struct Corruption {
  const char* name;
  absl::StatusCode code;
  // All of these are in the message: file, tensor or field, and what is wrong.
  std::vector<std::string> message;
  std::function<void(Files&)> damage;
  // Of the checkpoint in shards.
  bool sharded = false;
};

void PrintTo(const Corruption& corruption, std::ostream* out) { *out << corruption.name; }

using Damage = std::function<void(Files&)>;

Damage Header(const char* file, std::function<void(SafetensorsFile&)> edit) {
  return [=](Files& files) {
    SafetensorsFile parts = Unpack(files.at(file));
    edit(parts);
    files[file] = Pack(parts);
  };
}

// Replaces a field of one tensor's entry.
Damage Entry(const char* tensor, const char* field, const char* value) {
  return Header(kTensors, [=](SafetensorsFile& file) {
    file.header[tensor][field] = ordered_json::parse(value);
  });
}

Damage RemoveEntry(const char* file, const char* tensor) {
  return Header(file, [=](SafetensorsFile& parts) {
    // The data stay covered.
    parts.header["another"] = parts.header[tensor];
    parts.header.erase(tensor);
  });
}

// Writes another text for the whole header.
Damage RawHeader(const std::string& header) {
  return [=](Files& files) { files[kTensors] = Pack(header, Unpack(files[kTensors]).data); };
}

Damage HeaderLength(uint64_t length) {
  return [=](Files& files) {
    for (int i = 0; i < 8; ++i) files[kTensors][i] = static_cast<char>(length >> (8 * i));
  };
}

Damage Truncate(const char* file, std::function<size_t(const std::string&)> size) {
  return [=](Files& files) { files[file].resize(size(files[file])); };
}

Damage Replace(const char* file, const std::string& contents) {
  return [=](Files& files) { files[file] = contents; };
}

// Sets a field of a JSON file, given as text, so that it may be what no JSON value is.
Damage Field(const char* file, const char* field, const char* value) {
  return [=](Files& files) {
    ordered_json json = ordered_json::parse(files[file]);
    json.erase(field);
    std::string text = json.dump();
    text.insert(1, std::string("\"") + field + "\": " + value + ", ");
    files[file] = text;
  };
}

Damage Config(const char* field, const char* value) { return Field("config.json", field, value); }

Damage Generation(const char* field, const char* value) {
  return Field("generation_config.json", field, value);
}

Damage Index(std::function<void(ordered_json&)> edit) {
  return [=](Files& files) {
    ordered_json index = ordered_json::parse(files[kIndex]);
    edit(index);
    files[kIndex] = index.dump();
  };
}

Damage IndexShard(const char* tensor, const char* shard) {
  return Index([=](ordered_json& index) { index["weight_map"][tensor] = shard; });
}

size_t HeaderEnd(const std::string& file) { return file.size() - Unpack(file).data.size(); }

std::vector<Corruption> SingleFileCorruptions() {
  return {
      // The file's sections.
      {"NoTensorFile",
       kNotFound,
       {"has neither model.safetensors nor model.safetensors.index.json"},
       [](Files& files) { files.erase(kTensors); }},
      {"EmptyFile", kInvalid, {kTensors, "is empty"}, Replace(kTensors, "")},
      {"TruncatedInTheLength",
       kInvalid,
       {kTensors, "has 7 bytes, too few for a header length"},
       Truncate(kTensors, [](const std::string&) { return 7; })},
      {"TruncatedAfterTheLength",
       kInvalid,
       {kTensors, "header length is", "only 0 bytes follow"},
       Truncate(kTensors, [](const std::string&) { return 8; })},
      {"TruncatedInTheHeader",
       kInvalid,
       {kTensors, "header length is", "only 92 bytes follow"},
       Truncate(kTensors, [](const std::string&) { return 100; })},
      {"TruncatedBeforeTheData",
       kInvalid,
       {kTensors, "but the file has 0 bytes of data"},
       Truncate(kTensors, HeaderEnd)},
      {"TruncatedInTheData",
       kInvalid,
       {kTensors, "data_offsets up to", "bytes of data"},
       Truncate(kTensors, [](const std::string& file) { return HeaderEnd(file) + 100; })},
      {"TruncatedByOneByte",
       kInvalid,
       {kTensors, kNorm, "bytes of data"},
       Truncate(kTensors, [](const std::string& file) { return file.size() - 1; })},
      {"TrailingBytes",
       kInvalid,
       {kTensors, "the last 3 bytes belong to no tensor"},
       [](Files& files) { files[kTensors] += "abc"; }},
      // The header's length.
      {"LengthZero", kInvalid, {kTensors, "header", "not valid JSON"}, HeaderLength(0)},
      {"LengthOne", kInvalid, {kTensors, "header", "not valid JSON"}, HeaderLength(1)},
      {"LengthAboveTheLimit",
       kInvalid,
       {kTensors, "header length is 100000001", "the limit"},
       HeaderLength(100'000'001)},
      {"LengthBeyondTheFile",
       kInvalid,
       {kTensors, "header length is 100000000", "follow"},
       HeaderLength(100'000'000)},
      {"Length2To63",
       kInvalid,
       {kTensors, "header length is 9223372036854775808"},
       HeaderLength(uint64_t{1} << 63)},
      {"Length2To63Less1",
       kInvalid,
       {kTensors, "header length is 9223372036854775807"},
       HeaderLength((uint64_t{1} << 63) - 1)},
      {"Length2To64Less1",
       kInvalid,
       {kTensors, "header length is 18446744073709551615"},
       HeaderLength(~uint64_t{0})},
      {"Length2To64Less8",
       kInvalid,
       {kTensors, "header length is 18446744073709551608"},
       HeaderLength(~uint64_t{0} - 7)},
      // The header's text.
      {"HeaderIsNoJson", kInvalid, {kTensors, "not valid JSON"}, RawHeader("not json")},
      {"HeaderIsAnArray", kInvalid, {kTensors, "is not a JSON object"}, RawHeader("[1, 2]")},
      {"HeaderIsAString", kInvalid, {kTensors, "is not a JSON object"}, RawHeader("\"x\"")},
      {"HeaderIsNull", kInvalid, {kTensors, "is not a JSON object"}, RawHeader("null")},
      {"HeaderIsEmpty", kInvalid, {kTensors, "bytes belong to no tensor"}, RawHeader("{}")},
      {"HeaderOpensWithoutEnd", kInvalid, {kTensors, "not valid JSON"}, RawHeader("{\"a\": {")},
      {"HeaderWithTwoValues", kInvalid, {kTensors, "not valid JSON"}, RawHeader("{} {}")},
      {"HeaderWithZeroBytes",
       kInvalid,
       {kTensors, "not valid JSON"},
       RawHeader(std::string(64, '\0'))},
      {"HeaderIsNoUtf8", kInvalid, {kTensors, "not valid JSON"}, RawHeader("{\"\xc3\x28\": 1}")},
      {"HeaderOf100000Arrays",
       kInvalid,
       {kTensors, "nested more than 32 deep"},
       RawHeader("{\"a\": " + std::string(100'000, '['))},
      {"HeaderOf100000Objects",
       kInvalid,
       {kTensors, "nested more than 32 deep"},
       [](Files& files) {
         std::string header;
         for (int i = 0; i < 100'000; ++i) header += "{\"a\": ";
         files[kTensors] = Pack(header, "");
       }},
      {"HeaderWithAHugeNumber",
       kInvalid,
       {kTensors, "a number that is too large", "\"shape\""},
       RawHeader(R"({"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}})")},
      {"MetadataIsAList",
       kInvalid,
       {kTensors, "__metadata__ is not an object of strings"},
       Header(kTensors,
              [](SafetensorsFile& f) {
                f.header["__metadata__"] = {1, 2};
              })},
      {"MetadataHasANumber",
       kInvalid,
       {kTensors, "__metadata__ is not an object of strings"},
       Header(kTensors, [](SafetensorsFile& f) { f.header["__metadata__"]["format"] = 1; })},
      // Entries.
      {"DuplicateTensor",
       kInvalid,
       {kTensors, "has the name \"lm_head.weight\" twice"},
       [](Files& files) {
         const SafetensorsFile file = Unpack(files[kTensors]);
         std::string header = file.header.dump();
         header.insert(1, "\"lm_head.weight\": " + file.header[kHead].dump() + ", ");
         files[kTensors] = Pack(header, file.data);
       }},
      {"DuplicateFieldOfATensor",
       kInvalid,
       {kTensors, "has the name \"dtype\" twice"},
       RawHeader(R"({"a": {"dtype": "F32", "dtype": "F16"}})")},
      {"EntryIsANumber",
       kInvalid,
       {kTensors, kHead, "is not described by an object"},
       Header(kTensors, [](SafetensorsFile& f) { f.header[kHead] = 7; })},
      {"NoDtype",
       kInvalid,
       {kTensors, kHead, "has no dtype"},
       Header(kTensors, [](SafetensorsFile& f) { f.header[kHead].erase("dtype"); })},
      {"NoShape",
       kInvalid,
       {kTensors, kHead, "has no shape"},
       Header(kTensors, [](SafetensorsFile& f) { f.header[kHead].erase("shape"); })},
      {"NoOffsets",
       kInvalid,
       {kTensors, kHead, "has no data_offsets"},
       Header(kTensors, [](SafetensorsFile& f) { f.header[kHead].erase("data_offsets"); })},
      {"DtypeOfAnotherSize",
       kInvalid,
       {kTensors, kHead, "12 elements of dtype F16", "48 bytes"},
       Entry(kHead, "dtype", R"("F16")")},
      {"DtypeI32",
       kInvalid,
       {kTensors, kHead, "dtype I32, expected F32, F16 or BF16"},
       Entry(kHead, "dtype", R"("I32")")},
      {"DtypeI8",
       kInvalid,
       {kTensors, kHead, "dtype I8, expected F32, F16 or BF16"},
       Header(kTensors,
              [](SafetensorsFile& f) {
                f.header[kHead]["dtype"] = "I8";
                f.header[kHead]["shape"] = {12, 4};
              })},
      {"DtypeUnknown",
       kInvalid,
       {kTensors, kHead, "dtype F31, expected F32, F16 or BF16"},
       Entry(kHead, "dtype", R"("F31")")},
      {"DtypeInLowerCase",
       kInvalid,
       {kTensors, kHead, "\"f32\"", "no name of a type"},
       Entry(kHead, "dtype", R"("f32")")},
      {"DtypeEmpty",
       kInvalid,
       {kTensors, kHead, "no name of a type"},
       Entry(kHead, "dtype", R"("")")},
      {"DtypeIsANumber",
       kInvalid,
       {kTensors, kHead, "no name of a type"},
       Entry(kHead, "dtype", "32")},
      {"ShapeTransposed",
       kInvalid,
       {kTensors, kHead, "shape [4, 3], expected [3, 4]"},
       Entry(kHead, "shape", "[4, 3]")},
      {"ShapeFlat",
       kInvalid,
       {kTensors, kHead, "shape [12], expected [3, 4]"},
       Entry(kHead, "shape", "[12]")},
      {"ShapeOfAVectorAsMatrix",
       kInvalid,
       {kTensors, kNorm, "shape [1, 4], expected [4]"},
       Entry(kNorm, "shape", "[1, 4]")},
      {"ShapeTooSmall",
       kInvalid,
       {kTensors, kHead, "8 elements of dtype F32", "48 bytes"},
       Entry(kHead, "shape", "[2, 4]")},
      {"ShapeWithZero",
       kInvalid,
       {kTensors, kHead, "0 elements of dtype F32", "48 bytes"},
       Entry(kHead, "shape", "[0, 4]")},
      {"ShapeEmpty",
       kInvalid,
       {kTensors, kHead, "1 elements of dtype F32", "48 bytes"},
       Entry(kHead, "shape", "[]")},
      {"ShapeIsANumber",
       kInvalid,
       {kTensors, kHead, "shape 12, not a list"},
       Entry(kHead, "shape", "12")},
      {"DimensionNegative",
       kInvalid,
       {kTensors, kHead, "the dimension -3"},
       Entry(kHead, "shape", "[-3, -4]")},
      {"DimensionIsAFloat",
       kInvalid,
       {kTensors, kHead, "the dimension 3.0"},
       Entry(kHead, "shape", "[3.0, 4]")},
      {"DimensionIsAString",
       kInvalid,
       {kTensors, kHead, "the dimension \"3\""},
       Entry(kHead, "shape", R"(["3", 4])")},
      {"DimensionIsNull",
       kInvalid,
       {kTensors, kHead, "the dimension null"},
       Entry(kHead, "shape", "[null, 4]")},
      {"Dimension2To63",
       kInvalid,
       {kTensors, kHead, "the dimension 9223372036854775808"},
       Entry(kHead, "shape", "[9223372036854775808]")},
      {"DimensionBeyond64Bits",
       kInvalid,
       {kTensors, kHead, "the dimension 1.8446744073709552e+19"},
       Entry(kHead, "shape", "[18446744073709551616]")},
      {"ShapeOverflows64Bits",
       kInvalid,
       {kTensors, kHead, "too many elements"},
       Entry(kHead, "shape", "[4294967296, 4294967296, 12]")},
      {"BytesOverflow64Bits",
       kInvalid,
       {kTensors, kHead, "elements of dtype F32", "48 bytes"},
       // Times four, modulo 2^64, this is 48.
       Entry(kHead, "shape", "[4611686018427387916]")},
      {"OffsetsReversed",
       kInvalid,
       {kTensors, kHead, "[48, 0], which are no range"},
       Entry(kHead, "data_offsets", "[48, 0]")},
      {"OffsetsNegative",
       kInvalid,
       {kTensors, kHead, "[-48, 0], which are no range"},
       Entry(kHead, "data_offsets", "[-48, 0]")},
      {"OffsetsAreFloats",
       kInvalid,
       {kTensors, kHead, "which are no range"},
       Entry(kHead, "data_offsets", "[0.0, 48.0]")},
      {"OffsetsAreThree",
       kInvalid,
       {kTensors, kHead, "data_offsets of 3 entries"},
       Entry(kHead, "data_offsets", "[0, 24, 48]")},
      {"OffsetsAreNone",
       kInvalid,
       {kTensors, kHead, "data_offsets of 0 entries"},
       Entry(kHead, "data_offsets", "[]")},
      {"OffsetsAreAnObject",
       kInvalid,
       {kTensors, kHead, "an object, not a list"},
       Entry(kHead, "data_offsets", "{}")},
      {"OffsetsBeyondTheFile",
       kInvalid,
       {kTensors, kHead, "up to 1000048, but the file has"},
       Entry(kHead, "data_offsets", "[1000000, 1000048]")},
      {"OffsetsNear2To63",
       kInvalid,
       {kTensors, kHead, "up to 9223372036854775807"},
       Entry(kHead, "data_offsets", "[9223372036854775759, 9223372036854775807]")},
      {"OffsetsNear2To64",
       kInvalid,
       {kTensors, kHead, "which are no range"},
       Entry(kHead, "data_offsets", "[18446744073709551567, 18446744073709551615]")},
      {"OffsetsTooLong",
       kInvalid,
       {kTensors, kHead, "12 elements of dtype F32", "52 bytes"},
       Entry(kHead, "data_offsets", "[0, 52]")},
      {"OffsetsOfAnotherTensor",
       kInvalid,
       {kTensors, kEmbedding, "leave 48 bytes"},
       Entry(kHead, "data_offsets", "[48, 96]")},
      {"OffsetsOverlapByHalf",
       kInvalid,
       {kTensors, kHead, kEmbedding, "overlap"},
       Entry(kEmbedding, "data_offsets", "[24, 72]")},
      {"OffsetsOverlapInATensorNotNeeded",
       kInvalid,
       {kTensors, "unneeded", "overlap"},
       Header(
           kTensors,
           [](SafetensorsFile& f) {
             f.header["unneeded"] = {{"dtype", "U8"}, {"shape", {4}}, {"data_offsets", {10, 14}}};
           })},
      {"GapBetweenTensors",
       kInvalid,
       {kTensors, kHead, "leave 4 bytes before it to no tensor"},
       Header(kTensors,
              [](SafetensorsFile& f) {
                f.data.insert(0, 4, 'x');
                for (auto& item : f.header.items()) {
                  if (item.key() == "__metadata__") continue;
                  for (auto& offset : item.value()["data_offsets"]) {
                    offset = offset.get<uint64_t>() + 4;
                  }
                }
              })},
      // Tensors.
      {"MissingHead", kNotFound, {kTensors, kHead, "is missing"}, RemoveEntry(kTensors, kHead)},
      {"MissingNorm", kNotFound, {kTensors, kNorm, "is missing"}, RemoveEntry(kTensors, kNorm)},
      {"MissingExpert",
       kNotFound,
       {kTensors, "model.layers.0.mlp.experts.1.up_proj.weight", "is missing"},
       RemoveEntry(kTensors, "model.layers.0.mlp.experts.1.up_proj.weight")},
      {"MissingRouter",
       kNotFound,
       {kTensors, "model.layers.0.mlp.gate.weight", "is missing"},
       RemoveEntry(kTensors, "model.layers.0.mlp.gate.weight")},
      {"MoreLayersThanTensors",
       kNotFound,
       {kTensors, "model.layers.1.input_layernorm.weight"},
       Config("num_hidden_layers", "2")},
      {"MoreExpertsThanTensors",
       kInvalid,
       {kTensors, "model.layers.0.mlp.gate.weight", "shape [2, 4], expected [3, 4]"},
       Config("num_experts", "3")},
      {"AnotherHiddenSize",
       kInvalid,
       {kTensors, kEmbedding, "shape [3, 4], expected [3, 6]"},
       Config("hidden_size", "6")},
      {"BiasesThatAreNotThere",
       kNotFound,
       {kTensors, "model.layers.0.self_attn.q_proj.bias"},
       Config("attention_bias", "true")},
      // config.json.
      {"NoConfig",
       kNotFound,
       {"config.json", "no such file"},
       [](Files& files) { files.erase("config.json"); }},
      {"ConfigEmpty", kInvalid, {"config.json", "is empty"}, Replace("config.json", "")},
      {"ConfigIsNoJson",
       kInvalid,
       {"config.json", "not valid JSON at byte 3"},
       Replace("config.json", "{\"\n")},
      {"ConfigIsAList",
       kInvalid,
       {"config.json", "is not a JSON object"},
       Replace("config.json", "[]")},
      {"ConfigTruncated",
       kInvalid,
       {"config.json", "not valid JSON"},
       Truncate("config.json", [](const std::string& s) { return s.size() / 2; })},
      {"ConfigOf100000Brackets",
       kInvalid,
       {"config.json", "nested more than 32 deep"},
       Replace("config.json", "{\"a\": " + std::string(100'000, '['))},
      {"ConfigAboveTheLimit",
       kInvalid,
       {"config.json", "more than the limit of 4194304 bytes"},
       Replace("config.json", std::string(5 << 20, ' '))},
      {"ModelTypeMissing",
       kInvalid,
       {"config.json", "model_type is missing"},
       Replace("config.json", "{}")},
      {"ModelTypeIsANumber",
       kInvalid,
       {"config.json", "model_type is 3"},
       Config("model_type", "3")},
      {"ModelTypeUnknown",
       kUnimplemented,
       {"config.json", "model_type is \"llama\", supported are: mixtral"},
       Config("model_type", "\"llama\"")},
      {"DuplicateField",
       kInvalid,
       {"config.json", "has the name \"vocab_size\" twice"},
       [](Files& files) { files["config.json"].insert(1, "\"vocab_size\": 3, "); }},
      {"EpsIsNaN",
       kInvalid,
       {"config.json", "not valid JSON", "rms_norm_eps"},
       Config("rms_norm_eps", "NaN")},
      {"EpsIsInfinite",
       kInvalid,
       {"config.json", "not valid JSON", "rms_norm_eps"},
       Config("rms_norm_eps", "Infinity")},
      {"EpsIs1e999",
       kInvalid,
       {"config.json", "too large", "rms_norm_eps"},
       Config("rms_norm_eps", "1e999")},
      {"ThetaIsNaN",
       kInvalid,
       {"config.json", "not valid JSON", "rope_theta"},
       Config("rope_theta", "NaN")},
      {"ThetaIsMinus1e999",
       kInvalid,
       {"config.json", "too large", "rope_theta"},
       Config("rope_theta", "-1e999")},
      {"YarnFactorIsNaN",
       kInvalid,
       {"config.json", "not valid JSON", "factor"},
       Config("rope_scaling", R"({"type": "yarn", "factor": NaN})")},
      {"YarnFactorIsZero",
       kInvalid,
       {"config.json", "rope_scaling.factor is 0"},
       Config("rope_scaling", R"({"type": "yarn", "factor": 0})")},
      {"ZeroExperts", kInvalid, {"config.json", "num_experts is 0"}, Config("num_experts", "0")},
      {"NegativeExperts",
       kInvalid,
       {"config.json", "num_experts is -2"},
       Config("num_experts", "-2")},
      {"TooManyExperts",
       kInvalid,
       {"config.json", "num_experts is 65537"},
       Config("num_experts", "65537")},
      {"TopKIsZero",
       kInvalid,
       {"config.json", "num_experts_per_tok is 0"},
       Config("num_experts_per_tok", "0")},
      {"TopKAboveExperts",
       kInvalid,
       {"config.json", "num_experts_per_tok is 3, must be at most the number of experts, 2"},
       Config("num_experts_per_tok", "3")},
      {"ZeroLayers",
       kInvalid,
       {"config.json", "num_hidden_layers is 0"},
       Config("num_hidden_layers", "0")},
      {"BillionLayers",
       kInvalid,
       {"config.json", "num_hidden_layers is 1000000000"},
       Config("num_hidden_layers", "1000000000")},
      {"ZeroHeads",
       kInvalid,
       {"config.json", "num_attention_heads is 0"},
       Config("num_attention_heads", "0")},
      {"ZeroKvHeads",
       kInvalid,
       {"config.json", "num_key_value_heads is 0"},
       Config("num_key_value_heads", "0")},
      {"MoreKvHeadsThanHeads",
       kInvalid,
       {"config.json", "num_key_value_heads is 3"},
       Config("num_key_value_heads", "3")},
      {"OddHeadDim",
       kInvalid,
       {"config.json", "head_dim is 3, must be even"},
       Config("head_dim", "3")},
      {"HiddenSizeIsAString",
       kInvalid,
       {"config.json", "hidden_size is \"4\""},
       Config("hidden_size", "\"4\"")},
      {"HiddenSizeIs2To32",
       kInvalid,
       {"config.json", "hidden_size is 4294967296"},
       Config("hidden_size", "4294967296")},
      {"HiddenSizeIsAFloat",
       kInvalid,
       {"config.json", "hidden_size is 4.0"},
       Config("hidden_size", "4.0")},
      {"VocabSizeIs2To64Less1",
       kInvalid,
       {"config.json", "vocab_size is 18446744073709551615"},
       Config("vocab_size", "18446744073709551615")},
      {"DenseLayerOutOfRange",
       kInvalid,
       {"config.json", "mlp_only_layers is 1"},
       Config("mlp_only_layers", "[1]")},
      {"SparseStepIsZero",
       kInvalid,
       {"config.json", "decoder_sparse_step is 0"},
       Config("decoder_sparse_step", "0")},
      {"WindowIsZero",
       kInvalid,
       {"config.json", "sliding_window is 0"},
       Config("sliding_window", "0")},
      {"RopeTypeUnknown",
       kUnimplemented,
       {"config.json", "rope_scaling.rope_type is \"ntk\""},
       Config("rope_scaling", R"({"rope_type": "ntk"})")},
      {"Quantized",
       kUnimplemented,
       {"config.json", "quantization_config is an object"},
       Config("quantization_config", R"({"quant_method": "gptq"})")},
      {"AnotherActivation",
       kUnimplemented,
       {"config.json", "hidden_act is \"relu\""},
       Config("hidden_act", "\"relu\"")},
      {"EosIsAString",
       kInvalid,
       {"config.json", "eos_token_id is \"</s>\""},
       [](Files& files) {
         files.erase("generation_config.json");
         Config("eos_token_id", "\"</s>\"")(files);
       }},
      // generation_config.json.
      {"GenerationConfigIsNoJson",
       kInvalid,
       {"generation_config.json", "not valid JSON"},
       Replace("generation_config.json", "{")},
      {"GenerationConfigIsEmpty",
       kInvalid,
       {"generation_config.json", "is empty"},
       Replace("generation_config.json", "")},
      {"EosIsNegative",
       kInvalid,
       {"generation_config.json", "eos_token_id is -1"},
       Generation("eos_token_id", "-1")},
      {"EosListHasAString",
       kInvalid,
       {"generation_config.json", "an entry of eos_token_id is"},
       Generation("eos_token_id", R"([1, "2"])")},
      {"TemperatureIsNegative",
       kInvalid,
       {"generation_config.json", "temperature is -0.5"},
       Generation("temperature", "-0.5")},
      {"TemperatureIsNaN",
       kInvalid,
       {"generation_config.json", "not valid JSON", "temperature"},
       Generation("temperature", "NaN")},
      {"TopPIsTwo", kInvalid, {"generation_config.json", "top_p is 2"}, Generation("top_p", "2")},
      {"TopPIsZero", kInvalid, {"generation_config.json", "top_p is 0"}, Generation("top_p", "0")},
      {"TopKIsNegative",
       kInvalid,
       {"generation_config.json", "top_k is -1"},
       Generation("top_k", "-1")},
      {"MinPAboveOne",
       kInvalid,
       {"generation_config.json", "min_p is 1.5"},
       Generation("min_p", "1.5")},
      {"TypicalPIsZero",
       kInvalid,
       {"generation_config.json", "typical_p is 0"},
       Generation("typical_p", "0")},
      {"RepetitionPenaltyIsZero",
       kInvalid,
       {"generation_config.json", "repetition_penalty is 0"},
       Generation("repetition_penalty", "0")},
      {"DoSampleIsANumber",
       kInvalid,
       {"generation_config.json", "do_sample is 1"},
       Generation("do_sample", "1")},
      {"MaxNewTokensIsZero",
       kInvalid,
       {"generation_config.json", "max_new_tokens is 0"},
       Generation("max_new_tokens", "0")},
  };
}

std::vector<Corruption> ShardedCorruptions() {
  return {
      {"ShardMissing",
       kNotFound,
       {kShard2, "no such file"},
       [](Files& files) { files.erase(kShard2); }},
      {"AllShardsMissing",
       kNotFound,
       {kShard1, "no such file"},
       [](Files& files) {
         files.erase(kShard1);
         files.erase(kShard2);
       }},
      {"ShardEmpty", kInvalid, {kShard2, "is empty"}, Replace(kShard2, "")},
      {"ShardTruncated",
       kInvalid,
       {kShard2, kNorm, "bytes of data"},
       Truncate(kShard2, [](const std::string& file) { return file.size() - 1; })},
      {"ShardsSwapped",
       kInvalid,
       {kShard1, "is also in", kShard2},
       [](Files& files) { std::swap(files[kShard1], files[kShard2]); }},
      {"ShardTwice",
       kInvalid,
       {kShard2, "is also in", kShard1},
       [](Files& files) { files[kShard2] = files[kShard1]; }},
      {"ExtraShard",
       kInvalid,
       {"model-00003-of-00003.safetensors", "is a shard that", kIndex, "does not name"},
       [](Files& files) { files["model-00003-of-00003.safetensors"] = files[kShard2]; }},
      {"ExtraShardInTheIndex",
       kNotFound,
       {"model-00003-of-00003.safetensors", "no such file"},
       IndexShard("extra", "model-00003-of-00003.safetensors")},
      {"TensorNotInItsShard",
       kInvalid,
       {kShard1, kHead, "is also in", kShard2},
       IndexShard(kHead, kShard2)},
      {"TensorInNoShard",
       kNotFound,
       {kShard1, "\"extra\" is missing", kIndex},
       IndexShard("extra", kShard1)},
      {"TensorInTwoShards",
       kInvalid,
       {kShard2, kHead, "is also in", kShard1},
       Header(kShard2,
              [](SafetensorsFile& f) {
                f.header[kHead] = f.header[kNorm];
                f.header.erase(kNorm);
              })},
      {"TensorNotInTheIndex",
       kNotFound,
       {kIndex, kNorm, "is missing"},
       Index([](ordered_json& index) { index["weight_map"].erase(kNorm); })},
      {"TensorGoneFromAShard",
       kNotFound,
       {kShard2, kNorm, "is missing"},
       RemoveEntry(kShard2, kNorm)},
      {"WrongShapeInAShard",
       kInvalid,
       {kShard2, kNorm, "shape [2, 2], expected [4]"},
       Header(kShard2,
              [](SafetensorsFile& f) {
                f.header[kNorm]["shape"] = {2, 2};
              })},
      {"IndexEmpty", kInvalid, {kIndex, "is empty"}, Replace(kIndex, "")},
      {"IndexIsNoJson", kInvalid, {kIndex, "not valid JSON"}, Replace(kIndex, "weight_map")},
      {"IndexWithoutWeightMap",
       kInvalid,
       {kIndex, "weight_map is missing"},
       Index([](ordered_json& index) { index.erase("weight_map"); })},
      {"WeightMapEmpty",
       kInvalid,
       {kIndex, "weight_map is an object, must be"},
       Index([](ordered_json& index) { index["weight_map"] = ordered_json::object(); })},
      {"WeightMapIsAList",
       kInvalid,
       {kIndex, "weight_map is a list of 1"},
       Index([](ordered_json& index) { index["weight_map"] = {1}; })},
      {"ShardNameIsANumber",
       kInvalid,
       {kIndex, "weight_map has 1 for tensor \"lm_head.weight\""},
       Index([](ordered_json& index) { index["weight_map"][kHead] = 1; })},
      {"ShardNameClimbs",
       kInvalid,
       {kIndex, "\"../other.safetensors\"", "without a path"},
       IndexShard(kHead, "../other.safetensors")},
      {"ShardNameIsAbsolute",
       kInvalid,
       {kIndex, "\"/etc/passwd\"", "without a path"},
       IndexShard(kHead, "/etc/passwd")},
      {"ShardNameHasAFolder",
       kInvalid,
       {kIndex, "\"a/b\"", "without a path"},
       IndexShard(kHead, "a/b")},
      {"ShardNameIsDots", kInvalid, {kIndex, "\"..\"", "without a path"}, IndexShard(kHead, "..")},
      {"ShardNameIsEmpty", kInvalid, {kIndex, "without a path"}, IndexShard(kHead, "")},
      {"ShardNameHasAZeroByte",
       kInvalid,
       {kIndex, "\\u0000", "without a path"},
       Index([](ordered_json& index) {
         index["weight_map"][kHead] = std::string(kShard1) + '\0' + "x";
       })},
      {"ShardIsTheIndex", kInvalid, {kIndex, "header length is"}, IndexShard("extra", kIndex)},
      {"ShardIsTheConfig",
       kInvalid,
       {"config.json", "header length is"},
       IndexShard("extra", "config.json")},
  };
}

class CorruptionTest : public testing::TestWithParam<Corruption> {};

TEST_P(CorruptionTest, EndsInTheErrorThatNamesIt) {
  const Corruption& corruption = GetParam();
  Files files = corruption.sharded ? TinyShardedCheckpoint() : TinyCheckpoint();
  const TempFolder folder;
  folder.Fill(files);
  ASSERT_TRUE(Checkpoint::Open(folder.path()).ok()) << "sound before it is damaged";
  corruption.damage(files);
  folder.Fill(files);
  const auto checkpoint = Checkpoint::Open(folder.path());
  EXPECT_EQ(checkpoint.status().code(), corruption.code) << checkpoint.status();
  for (const std::string& part : corruption.message) {
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(part));
  }
}

std::vector<Corruption> AllCorruptions() {
  std::vector<Corruption> all = SingleFileCorruptions();
  for (const Corruption& corruption : ShardedCorruptions()) {
    all.push_back(corruption);
    all.back().sharded = true;
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, CorruptionTest, testing::ValuesIn(AllCorruptions()),
                         [](const auto& test) { return std::string(test.param.name); });

// What is in the folder instead of a file.
TEST(CheckpointFolderTest, RefusesWhatIsNoFolderOrNoFile) {
  const TempFolder folder;
  const auto expect = [&](const std::string& path, absl::StatusCode code, const char* message) {
    const absl::Status status = Checkpoint::Open(path).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  };
  expect(folder.path() + "/absent", kNotFound, "absent: no such folder");
  expect("", kNotFound, "no such folder");
  Files files = TinyCheckpoint();
  folder.Fill(files);
  expect(folder.path() + "/config.json", kInvalid, "config.json: is not a folder");
  for (const char* file : {"config.json", "generation_config.json", kTensors}) {
    const std::string path = folder.path() + "/" + file;
    folder.Fill(files);
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
    expect(folder.path(), kInvalid, (std::string(file) + ": is not a regular file").c_str());
    // A pipe without a writer: opening it must not wait.
    std::filesystem::remove(path);
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    expect(folder.path(), kInvalid, (std::string(file) + ": is not a regular file").c_str());
  }
}

}  // namespace
}  // namespace sluice::model
