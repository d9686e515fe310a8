// The BPE model of a tokenizer.json: byte-pair encoding of one piece of text after another
// (Sennrich et al. 2016; Gage 1994).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/token.h"
#include "tokenizer/json_field.h"
#include "tokenizer/vocabulary.h"

namespace sluice::tokenizer {

// Immutable; usable from any thread.
class BpeModel {
 public:
  // INVALID_ARGUMENT or UNIMPLEMENTED, naming the field, for what is malformed or not supported.
  static absl::StatusOr<BpeModel> FromJson(const JsonField& field);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Whether no token stands for more bytes of a piece than its own text has: whether all characters
  // have tokens, and neither a prefix nor the unknown token gets between. `of_bytes`: whether
  // pieces consist of the byte alphabet alone.
  bool TokensCoverTheirText(bool of_bytes) const;

 private:
  friend class BpeEncoder;

  struct Merge {
    int32_t rank;
    TokenId merged;
  };

  explicit BpeModel(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

  static uint64_t PairKey(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  absl::Status ReadMerges(const JsonField& field);
  absl::Status AddMerge(const JsonField& field, size_t index, absl::string_view left,
                        absl::string_view right);
  void IndexBytes();

  Vocabulary vocabulary_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by PairKey
  std::string unk_token_;
  std::optional<TokenId> unk_id_;  // of unk_token_, if the vocabulary has it
  bool has_unk_token_ = false;
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  // Written before each character but the first, and behind the last, when it is looked up.
  std::string continuing_subword_prefix_;
  std::string end_of_word_suffix_;
  // Ids of the tokens <0x00> to <0xFF>, and of the characters below U+0200 as they are; -1 if there
  // is none.
  std::vector<TokenId> byte_ids_;
  std::vector<TokenId> character_ids_;
};

// Encodes the pieces of one text. Not thread-safe; the model must outlive it.
class BpeEncoder {
 public:
  explicit BpeEncoder(const BpeModel& model) : model_(model) {}

  // Adds the tokens of a piece, in O(n log n). Characters without a token become byte tokens, if
  // the model has them, or the unknown token, or are left out if it has none. INVALID_ARGUMENT if
  // the unknown token is needed but not in the vocabulary. REQUIRES: valid UTF-8.
  absl::Status Append(absl::string_view piece);
  void AppendToken(TokenId id) { ids_.push_back(id); }

  // All tokens so far; call last.
  std::vector<TokenId> TakeIds() { return std::move(ids_); }

 private:
  struct Symbol {
    TokenId id;    // kMerged if it has become part of the symbol before it
    int32_t prev;  // position in symbols_, or -1
    int32_t next;
  };
  struct Candidate {
    int32_t rank;
    int32_t position;  // of the left symbol
    TokenId merged;
    // Of two, the heap puts the one of lower rank first, then the one further left.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  static constexpr TokenId kMerged = -1;

  absl::Status Split(absl::string_view piece);
  bool AppendBytes(absl::string_view character);
  TokenId FindCharacter(absl::string_view character, bool is_first, bool is_last);
  void AppendSymbol(TokenId id);
  void AddCandidate(int32_t position);
  void MergeAll();

  const BpeModel& model_;
  std::vector<TokenId> ids_;
  // Of the piece at hand.
  std::vector<Symbol> symbols_;
  std::vector<Candidate> candidates_;  // a heap
  std::string scratch_;
};

}  // namespace sluice::tokenizer
