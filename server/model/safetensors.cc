// A safetensors file:
//
//   0                8                    8 + n
//   +----------------+--------------------+---------------------------------------------+
//   | n: u64, little | header: JSON, n    | data section: the tensors, row-major,       |
//   | endian         | bytes, maybe ended | little endian, back to back, unaligned      |
//   |                | by spaces          |                                             |
//   +----------------+--------------------+---------------------------------------------+
//
//   header = {"__metadata__": {"format": "pt", ...},                          (optional; strings)
//             "model.norm.weight": {"dtype": "BF16", "shape": [2048], "data_offsets": [0, 4096]},
//             ...}
//
// data_offsets are [begin, end) from the start of the data section.
#include "model/safetensors.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/json.h"

namespace sluice::model {
namespace {

constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();

// Bits of one element; nullopt for a type that is newer than this list.
std::optional<uint64_t> BitsOf(absl::string_view dtype) {
  struct Known {
    absl::string_view name;
    uint64_t bits;
  };
  static constexpr Known kKnown[] = {
      {"BOOL", 8},    {"U8", 8},      {"I8", 8},      {"U16", 16},    {"I16", 16},
      {"F16", 16},    {"BF16", 16},   {"U32", 32},    {"I32", 32},    {"F32", 32},
      {"U64", 64},    {"I64", 64},    {"F64", 64},    {"C64", 64},    {"F8_E4M3", 8},
      {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
  };
  for (const Known& known : kKnown) {
    if (known.name == dtype) return known.bits;
  }
  return std::nullopt;
}

bool IsDTypeName(const std::string& text) {
  return !text.empty() && text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isupper(c) || absl::ascii_isdigit(c) || c == '_';
  });
}

// `value` as a count of bytes or elements, if it is one.
std::optional<uint64_t> ToCount(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto count = value.get<uint64_t>();
  return count <= kMaxOffset ? std::optional(count) : std::nullopt;
}

// Reads one entry of the header.
class EntryReader {
 public:
  EntryReader(absl::string_view file, const std::string& name, const Json& json)
      : file_(file), name_(name), json_(json) {}

  absl::StatusOr<TensorEntry> Read(absl::Span<const std::byte> data) const {
    if (!json_.is_object()) return Error("is not described by an object");
    TensorEntry entry;
    entry.name = name_;
    ASSIGN_OR_RETURN(entry.dtype, ReadDType());
    uint64_t num_elements = 1;
    ASSIGN_OR_RETURN(const Json* shape, ReadList("shape"));
    for (const Json& element : *shape) {
      const std::optional<uint64_t> dim = ToCount(element);
      if (!dim) return Error("has a shape with the dimension ", Describe(element));
      if (*dim != 0 && num_elements > kMaxOffset / *dim) {
        return Error("has a shape with too many elements");
      }
      num_elements *= *dim;
      entry.shape.push_back(static_cast<int64_t>(*dim));
    }
    ASSIGN_OR_RETURN(entry.data, ReadData(data));
    RETURN_IF_ERROR(CheckSize(entry, num_elements));
    return entry;
  }

 private:
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InvalidArgumentError(
        absl::StrCat(file_, ": tensor ", Describe(name_), " ", parts...));
  }

  absl::StatusOr<const Json*> Field(const char* field) const {
    const auto it = json_.find(field);
    if (it == json_.end()) return Error("has no ", field);
    return &*it;
  }

  absl::StatusOr<const Json*> ReadList(const char* field) const {
    ASSIGN_OR_RETURN(const Json* value, Field(field));
    if (!value->is_array()) return Error("has as ", field, " ", Describe(*value), ", not a list");
    return value;
  }

  absl::StatusOr<std::string> ReadDType() const {
    ASSIGN_OR_RETURN(const Json* value, Field("dtype"));
    if (!value->is_string() || !IsDTypeName(value->get_ref<const std::string&>())) {
      return Error("has the dtype ", Describe(*value), ", which is no name of a type");
    }
    return value->get<std::string>();
  }

  absl::StatusOr<absl::Span<const std::byte>> ReadData(absl::Span<const std::byte> data) const {
    ASSIGN_OR_RETURN(const Json* offsets, ReadList("data_offsets"));
    if (offsets->size() != 2) return Error("has data_offsets of ", offsets->size(), " entries");
    const std::optional<uint64_t> begin = ToCount((*offsets)[0]);
    const std::optional<uint64_t> end = ToCount((*offsets)[1]);
    if (!begin || !end || *begin > *end) {
      return Error("has the data_offsets [", Describe((*offsets)[0]), ", ", Describe((*offsets)[1]),
                   "], which are no range");
    }
    if (*end > data.size()) {
      return Error("has data_offsets up to ", *end, ", but the file has ", data.size(),
                   " bytes of data");
    }
    return data.subspan(*begin, *end - *begin);
  }

  // The size of a type that is newer than this reader cannot be checked.
  absl::Status CheckSize(const TensorEntry& entry, uint64_t num_elements) const {
    const std::optional<uint64_t> bits = BitsOf(entry.dtype);
    if (!bits) return absl::OkStatus();
    const bool fits = num_elements <= std::numeric_limits<uint64_t>::max() / *bits;
    if (fits && num_elements * *bits % 8 == 0 && num_elements * *bits / 8 == entry.data.size()) {
      return absl::OkStatus();
    }
    return Error("has ", num_elements, " elements of dtype ", entry.dtype,
                 ", but data_offsets give it ", entry.data.size(), " bytes");
  }

  absl::string_view file_;
  const std::string& name_;
  const Json& json_;
};

absl::Status CheckMetadata(absl::string_view file, const Json& metadata) {
  const bool valid =
      metadata.is_object() &&
      std::all_of(metadata.begin(), metadata.end(), [](const Json& v) { return v.is_string(); });
  if (valid) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": __metadata__ is not an object of strings"));
}

// REQUIRES: `tensors` are sorted by where their data begin, then end.
absl::Status CheckCoverage(absl::string_view file, const std::vector<TensorEntry>& tensors,
                           absl::Span<const std::byte> data) {
  const std::byte* covered = data.data();
  const std::string* previous = nullptr;
  for (const TensorEntry& tensor : tensors) {
    const auto error = [&](const auto&... parts) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": tensor ", Describe(tensor.name), " ", parts...));
    };
    if (tensor.data.data() < covered) {
      return error("has data_offsets that overlap those of tensor ", Describe(*previous));
    }
    if (tensor.data.data() > covered) {
      return error("has data_offsets that leave ", tensor.data.data() - covered,
                   " bytes before it to no tensor");
    }
    covered = tensor.data.data() + tensor.data.size();
    previous = &tensor.name;
  }
  const size_t num_left = data.data() + data.size() - covered;
  if (num_left == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": the last ", num_left, " bytes belong to no tensor"));
}

}  // namespace

absl::StatusOr<std::vector<TensorEntry>> ParseSafetensors(absl::string_view file,
                                                          absl::Span<const std::byte> bytes) {
  constexpr size_t kLengthBytes = 8;
  if (bytes.size() < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": has ", bytes.size(), " bytes, too few for a header length"));
  }
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    header_bytes |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  }
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": header length is ", header_bytes,
                                                   ", more than the limit of ",
                                                   kMaxSafetensorsHeaderBytes));
  }
  if (header_bytes > bytes.size() - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": header length is ", header_bytes,
                                                   ", but only ", bytes.size() - kLengthBytes,
                                                   " bytes follow"));
  }
  const absl::string_view header(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                                 header_bytes);
  const absl::Span<const std::byte> data = bytes.subspan(kLengthBytes + header_bytes);
  ASSIGN_OR_RETURN(const Json json, ParseJsonObject(absl::StrCat(file, ": header"), header));

  std::vector<TensorEntry> tensors;
  tensors.reserve(json.size());
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") {
      RETURN_IF_ERROR(CheckMetadata(file, entry));
      continue;
    }
    ASSIGN_OR_RETURN(TensorEntry tensor, EntryReader(file, name, entry).Read(data));
    tensors.push_back(std::move(tensor));
  }
  const auto position = [](const TensorEntry& tensor) {
    return std::make_tuple(tensor.data.data(), tensor.data.size());
  };
  std::sort(tensors.begin(), tensors.end(),
            [&](const TensorEntry& a, const TensorEntry& b) { return position(a) < position(b); });
  RETURN_IF_ERROR(CheckCoverage(file, tensors, data));
  return tensors;
}

}  // namespace sluice::model
