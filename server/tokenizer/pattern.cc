#include "tokenizer/pattern.h"

#include <oniguruma.h>

#include <limits>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

// The patterns of published tokenizers backtrack less than ten times per byte of any text.
constexpr int64_t kRetriesPerByte = 200;
constexpr int64_t kRetriesAtLeast = 1'000'000;
// A search is tried with this limit first and is not charged for if it stays within; beyond, the
// limit grows by this factor from one try to the next.
constexpr int64_t kFreeRetries = 256;
constexpr int64_t kRetriesGrowth = 8;
// Entries of some 40 bytes each on Oniguruma's stack: what a run of as many blanks needs.
constexpr unsigned int kMatchStackEntries = 1 << 22;
// The published patterns are shorter than 1 KiB.
constexpr size_t kMaxRegexBytes = 64 << 10;

const OnigUChar* Bytes(absl::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

absl::Status TooMuchWork() {
  return absl::InvalidArgumentError(
      "text: splitting it with the tokenizer's regular expression takes too many steps");
}

}  // namespace

struct MatchBudget::Scratch {
  OnigRegion* region = onig_region_new();
  OnigMatchParam* limits = onig_new_match_param();

  Scratch() { CHECK(region != nullptr && limits != nullptr); }
  ~Scratch() {
    onig_region_free(region, /*free_self=*/1);
    onig_free_match_param(limits);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
};

MatchBudget::MatchBudget(size_t text_bytes)
    : retries_left_(kRetriesAtLeast + kRetriesPerByte * static_cast<int64_t>(text_bytes)),
      scratch_(std::make_unique<Scratch>()) {
  onig_set_match_stack_limit_size_of_match_param(scratch_->limits, kMatchStackEntries);
}

MatchBudget::~MatchBudget() = default;

void Pattern::FreeRegex::operator()(re_pattern_buffer* regex) const { onig_free(regex); }

absl::StatusOr<Pattern> Pattern::Regex(const std::string& regex) {
  if (regex.size() > kMaxRegexBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the regular expression is longer than ", kMaxRegexBytes, " bytes"));
  }
  // Searching is thread-safe, each search with a region of its own; compiling is not promised to
  // be.
  static std::once_flag initialized;
  std::call_once(initialized, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    CHECK(onig_initialize(encodings, 1) == ONIG_NORMAL);
  });
  static auto& compiling = *new base::Mutex();
  OnigRegex compiled = nullptr;
  OnigErrorInfo info;
  int result;
  {
    base::MutexLock lock(compiling);
    result = onig_new(&compiled, Bytes(regex), Bytes(regex) + regex.size(), ONIG_OPTION_NONE,
                      ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  }
  if (result != ONIG_NORMAL) {
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    const int length = onig_error_code_to_str(message, result, &info);
    return absl::InvalidArgumentError(absl::StrCat(
        "not a regular expression: ",
        absl::string_view(reinterpret_cast<const char*>(message), static_cast<size_t>(length))));
  }
  Pattern pattern;
  pattern.regex_.reset(compiled);
  return pattern;
}

absl::StatusOr<Pattern> Pattern::Literal(const std::string& literal) {
  if (literal.empty()) return Regex("");
  Pattern pattern;
  pattern.literal_ = literal;
  return pattern;
}

absl::StatusOr<Pattern> Pattern::FromJson(const JsonField& field) {
  const std::optional<JsonField> literal = field.Find("String");
  const std::optional<JsonField> regex = field.Find("Regex");
  if (literal.has_value() == regex.has_value()) {
    return field.Invalid("must have either 'String' or 'Regex'");
  }
  const JsonField& source = literal.has_value() ? *literal : *regex;
  ASSIGN_OR_RETURN(const std::string text, source.String());
  absl::StatusOr<Pattern> pattern = literal.has_value() ? Literal(text) : Regex(text);
  if (!pattern.ok()) return source.Invalid(pattern.status().message());
  return pattern;
}

absl::StatusOr<std::vector<Pattern::Span>> Pattern::FindAll(absl::string_view text,
                                                            MatchBudget& budget) const {
  std::vector<Span> spans;
  size_t covered = 0;
  size_t from = 0;
  std::optional<size_t> last_end;
  while (from <= text.size()) {
    ASSIGN_OR_RETURN(const std::optional<Span> match, FindNext(text, from, budget));
    if (!match.has_value()) break;
    if (match->begin == match->end && match->end == last_end) {
      // An empty match right behind the last one does not count.
      from += from < text.size() ? Utf8Length(text[from]) : 1;
      continue;
    }
    if (covered < match->begin) spans.push_back({covered, match->begin, false});
    spans.push_back(*match);
    covered = from = match->end;
    last_end = match->end;
  }
  if (covered < text.size()) spans.push_back({covered, text.size(), false});
  return spans;
}

absl::StatusOr<std::optional<Pattern::Span>> Pattern::FindNext(absl::string_view text, size_t from,
                                                               MatchBudget& budget) const {
  if (!is_regex()) {
    const size_t found = text.find(literal_, from);
    if (found == absl::string_view::npos) return std::nullopt;
    return Span{found, found + literal_.size(), true};
  }
  // Oniguruma's positions are ints.
  if (text.size() > std::numeric_limits<int>::max()) return TooMuchWork();
  MatchBudget::Scratch& scratch = *budget.scratch_;
  const OnigUChar* const begin = Bytes(text);
  const OnigUChar* const end = begin + text.size();
  for (int64_t limit = kFreeRetries;; limit *= kRetriesGrowth) {
    onig_set_retry_limit_in_match_of_match_param(scratch.limits, static_cast<unsigned long>(limit));
    onig_set_retry_limit_in_search_of_match_param(scratch.limits,
                                                  static_cast<unsigned long>(limit));
    const int result = onig_search_with_param(regex_.get(), begin, end, begin + from, end,
                                              scratch.region, ONIG_OPTION_NONE, scratch.limits);
    if (result == ONIG_MISMATCH) return std::nullopt;
    if (result >= 0) {
      return Span{static_cast<size_t>(scratch.region->beg[0]),
                  static_cast<size_t>(scratch.region->end[0]), true};
    }
    if (result != ONIGERR_RETRY_LIMIT_IN_MATCH_OVER &&
        result != ONIGERR_RETRY_LIMIT_IN_SEARCH_OVER) {
      return TooMuchWork();
    }
    budget.retries_left_ -= limit;
    if (budget.retries_left_ < limit * kRetriesGrowth) return TooMuchWork();
  }
}

}  // namespace sluice::tokenizer
