#include "tokenizer/bpe.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

constexpr char32_t kIndexedCharacters = 0x200;

}  // namespace

absl::StatusOr<BpeModel> BpeModel::FromJson(const JsonField& field) {
  if (!field.value().is_object()) return field.Invalid("must be an object");
  // Old files do not name the type; BPE alone has merges.
  ASSIGN_OR_RETURN(const std::string type,
                   field.StringOr("type", field.Find("merges").has_value() ? "BPE" : "unknown"));
  if (type != "BPE") {
    return field.Unimplemented(absl::StrCat("the model ", type, " is not supported, only BPE is"));
  }
  if (const auto dropout = field.Find("dropout"); dropout.has_value()) {
    if (!dropout->value().is_number()) return dropout->Invalid("must be a number");
    if (dropout->value().get<double>() != 0) {
      return dropout->Unimplemented("dropout of merges is not supported");
    }
  }
  ASSIGN_OR_RETURN(const JsonField vocabulary_field, field.At("vocab"));
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::FromJson(vocabulary_field));
  BpeModel model(std::move(vocabulary));
  model.has_unk_token_ = field.Find("unk_token").has_value();
  ASSIGN_OR_RETURN(model.unk_token_, field.StringOr("unk_token", ""));
  if (model.has_unk_token_) model.unk_id_ = model.vocabulary_.Find(model.unk_token_);
  ASSIGN_OR_RETURN(model.fuse_unk_, field.BoolOr("fuse_unk", false));
  ASSIGN_OR_RETURN(model.byte_fallback_, field.BoolOr("byte_fallback", false));
  ASSIGN_OR_RETURN(model.ignore_merges_, field.BoolOr("ignore_merges", false));
  ASSIGN_OR_RETURN(model.continuing_subword_prefix_,
                   field.StringOr("continuing_subword_prefix", ""));
  ASSIGN_OR_RETURN(model.end_of_word_suffix_, field.StringOr("end_of_word_suffix", ""));
  ASSIGN_OR_RETURN(const JsonField merges, field.At("merges"));
  RETURN_IF_ERROR(model.ReadMerges(merges));
  model.IndexBytes();
  return model;
}

absl::Status BpeModel::ReadMerges(const JsonField& field) {
  if (!field.value().is_array()) return field.Invalid("must be an array");
  const nlohmann::json& merges = field.value();
  merges_.reserve(merges.size());
  // Not through JsonField: there may be hundreds of thousands.
  for (size_t i = 0; i < merges.size(); ++i) {
    const nlohmann::json& merge = merges[i];
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      RETURN_IF_ERROR(AddMerge(field, i, merge[0].get_ref<const std::string&>(),
                               merge[1].get_ref<const std::string&>()));
      continue;
    }
    if (!merge.is_string()) {
      return field.Invalid(absl::StrCat("element ", i, " must be two strings"));
    }
    const auto& text = merge.get_ref<const std::string&>();
    if (text.rfind("#version", 0) == 0) continue;  // the first line of a merges.txt
    const size_t blank = text.find(' ');
    if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos) {
      return field.Invalid(
          absl::StrCat("element ", i, " must be two tokens with one blank between them"));
    }
    RETURN_IF_ERROR(AddMerge(field, i, absl::string_view(text).substr(0, blank),
                             absl::string_view(text).substr(blank + 1)));
  }
  return absl::OkStatus();
}

absl::Status BpeModel::AddMerge(const JsonField& field, size_t index, absl::string_view left,
                                absl::string_view right) {
  const auto find = [&](absl::string_view token) -> absl::StatusOr<TokenId> {
    const std::optional<TokenId> id = vocabulary_.Find(token);
    if (id.has_value()) return *id;
    return field.Invalid(
        absl::StrCat("element ", index, " needs the token '", token, "', which vocab lacks"));
  };
  ASSIGN_OR_RETURN(const TokenId left_id, find(left));
  ASSIGN_OR_RETURN(const TokenId right_id, find(right));
  if (right.size() < continuing_subword_prefix_.size()) {
    return field.Invalid(absl::StrCat("element ", index, ": '", right,
                                      "' is shorter than continuing_subword_prefix"));
  }
  ASSIGN_OR_RETURN(const TokenId merged,
                   find(absl::StrCat(left, right.substr(continuing_subword_prefix_.size()))));
  merges_[PairKey(left_id, right_id)] = {static_cast<int32_t>(index), merged};
  return absl::OkStatus();
}

void BpeModel::IndexBytes() {
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_.push_back(vocabulary_.Find(absl::StrFormat("<0x%02X>", byte)).value_or(-1));
  }
  for (char32_t c = 0; c < kIndexedCharacters; ++c) {
    std::string character;
    AppendUtf8(c, character);
    character_ids_.push_back(vocabulary_.Find(character).value_or(-1));
  }
}

bool BpeModel::TokensCoverTheirText(bool of_bytes) const {
  if (!continuing_subword_prefix_.empty() || !end_of_word_suffix_.empty()) return false;
  const auto exists = [](TokenId id) { return id >= 0; };
  if (byte_fallback_ && std::all_of(byte_ids_.begin(), byte_ids_.end(), exists)) return true;
  if (!of_bytes) return false;
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    AppendByteAlphabet(std::string(1, static_cast<char>(byte)), character);
    if (!vocabulary_.Find(character).has_value()) return false;
  }
  return true;
}

absl::Status BpeEncoder::Append(absl::string_view piece) {
  if (piece.empty()) return absl::OkStatus();
  if (piece.size() > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError("text: is too long to be encoded");
  }
  if (model_.ignore_merges_) {
    if (const auto id = model_.vocabulary_.Find(piece); id.has_value()) {
      ids_.push_back(*id);
      return absl::OkStatus();
    }
  }
  symbols_.clear();
  RETURN_IF_ERROR(Split(piece));
  MergeAll();
  for (const Symbol& symbol : symbols_) {
    if (symbol.id != kMerged) ids_.push_back(symbol.id);
  }
  return absl::OkStatus();
}

absl::Status BpeEncoder::Split(absl::string_view piece) {
  // The unknown token is held back until the next character that has a token: byte tokens pass it.
  bool unknown_pending = false;
  for (size_t i = 0; i < piece.size();) {
    const size_t end = i + Utf8Length(piece[i]);
    const absl::string_view character = piece.substr(i, end - i);
    const TokenId id = FindCharacter(character, i == 0, end == piece.size());
    i = end;
    if (id >= 0) {
      if (unknown_pending) AppendSymbol(*model_.unk_id_);
      unknown_pending = false;
      AppendSymbol(id);
      continue;
    }
    if (model_.byte_fallback_ && AppendBytes(scratch_)) continue;
    if (!model_.has_unk_token_) continue;
    if (!model_.unk_id_.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("text: '", character, "' has no token, and the tokenizer's unknown token '",
                       model_.unk_token_, "' is not in its vocabulary"));
    }
    if (unknown_pending && !model_.fuse_unk_) AppendSymbol(*model_.unk_id_);
    unknown_pending = true;
  }
  if (unknown_pending) AppendSymbol(*model_.unk_id_);
  return absl::OkStatus();
}

// Leaves in scratch_ what was looked up, if it was not found.
TokenId BpeEncoder::FindCharacter(absl::string_view character, bool is_first, bool is_last) {
  const bool has_prefix = !is_first && !model_.continuing_subword_prefix_.empty();
  const bool has_suffix = is_last && !model_.end_of_word_suffix_.empty();
  if (!has_prefix && !has_suffix) {
    const char32_t code_point = CodePointAt(character, 0);
    const TokenId id = code_point < kIndexedCharacters
                           ? model_.character_ids_[code_point]
                           : model_.vocabulary_.Find(character).value_or(-1);
    if (id < 0) scratch_.assign(character.data(), character.size());
    return id;
  }
  scratch_ = absl::StrCat(has_prefix ? model_.continuing_subword_prefix_ : "", character,
                          has_suffix ? model_.end_of_word_suffix_ : "");
  return model_.vocabulary_.Find(scratch_).value_or(-1);
}

// False, and nothing is added, if one of the bytes has no token.
bool BpeEncoder::AppendBytes(absl::string_view character) {
  const auto id_of = [&](char c) { return model_.byte_ids_[static_cast<unsigned char>(c)]; };
  if (std::any_of(character.begin(), character.end(), [&](char c) { return id_of(c) < 0; })) {
    return false;
  }
  for (const char c : character) AppendSymbol(id_of(c));
  return true;
}

void BpeEncoder::AppendSymbol(TokenId id) {
  const auto position = static_cast<int32_t>(symbols_.size());
  if (position > 0) symbols_.back().next = position;
  symbols_.push_back({id, position - 1, -1});
}

// Adds the merge of the symbol at `position` with the one after it, if there is such a merge.
void BpeEncoder::AddCandidate(int32_t position) {
  const int32_t next = symbols_[position].next;
  if (next < 0) return;
  const auto merge =
      model_.merges_.find(BpeModel::PairKey(symbols_[position].id, symbols_[next].id));
  if (merge == model_.merges_.end()) return;
  candidates_.push_back({merge->second.rank, position, merge->second.merged});
  std::push_heap(candidates_.begin(), candidates_.end());
}

void BpeEncoder::MergeAll() {
  candidates_.clear();
  for (int32_t i = 0; i < static_cast<int32_t>(symbols_.size()); ++i) AddCandidate(i);
  while (!candidates_.empty()) {
    const Candidate best = candidates_.front();
    std::pop_heap(candidates_.begin(), candidates_.end());
    candidates_.pop_back();
    Symbol& left = symbols_[best.position];
    // Candidates are not removed when their symbols change, but passed over here.
    if (left.id == kMerged || left.next < 0) continue;
    Symbol& right = symbols_[left.next];
    const auto merge = model_.merges_.find(BpeModel::PairKey(left.id, right.id));
    if (merge == model_.merges_.end() || merge->second.merged != best.merged) continue;

    left.id = best.merged;
    right.id = kMerged;
    left.next = right.next;
    if (left.next >= 0) symbols_[left.next].prev = best.position;
    if (left.prev >= 0) AddCandidate(left.prev);
    AddCandidate(best.position);
  }
}

}  // namespace sluice::tokenizer
