// Reading of texts for quality.h.
#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "bench/quality.h"

namespace sluice::bench {
namespace {

constexpr int64_t kMaxFileBytes = 64 << 20;

absl::StatusOr<std::string> ReadFile(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string content;
  std::string part(1 << 16, '\0');
  while (stream.read(part.data(), static_cast<std::streamsize>(part.size())) ||
         stream.gcount() > 0) {
    content.append(part.data(), static_cast<size_t>(stream.gcount()));
    if (static_cast<int64_t>(content.size()) > kMaxFileBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, " has more than ", kMaxFileBytes, " bytes"));
    }
  }
  if (content.empty()) return absl::NotFoundError(absl::StrCat(file, " cannot be read"));
  return content;
}

// A field of `object`, which need not be one; null if there is none.
const nlohmann::json* Field(const nlohmann::json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto field = object.find(name);
  return field == object.end() ? nullptr : &*field;
}

// Appends an array of token ids. Whether the model has them is checked by who runs it.
bool AppendIds(const nlohmann::json* ids, std::vector<TokenId>& tokens) {
  if (ids == nullptr || !ids->is_array() || ids->empty()) return false;
  for (const nlohmann::json& id : *ids) {
    if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<TokenId>::max()) return false;
    tokens.push_back(id.get<TokenId>());
  }
  return true;
}

absl::StatusOr<QualityText> Conversation(const std::string& prompt, const std::string& answer,
                                         const tokenizer::Tokenizer& tokenizer,
                                         const tokenizer::ChatTemplate& chat_template) {
  const tokenizer::ChatMessage messages[] = {{"user", prompt}, {"assistant", answer}};
  ASSIGN_OR_RETURN(const std::string asked,
                   chat_template.Render(absl::MakeConstSpan(messages).first(1), true));
  ASSIGN_OR_RETURN(const std::string whole, chat_template.Render(messages, false));
  ASSIGN_OR_RETURN(const std::vector<TokenId> prefix,
                   tokenizer.Encode(asked, {.add_special_tokens = false}));
  QualityText text;
  ASSIGN_OR_RETURN(text.tokens, tokenizer.Encode(whole, {.add_special_tokens = false}));
  text.answer_begin = prefix.size();
  if (prefix.empty() || prefix.size() >= text.tokens.size() ||
      !std::equal(prefix.begin(), prefix.end(), text.tokens.begin())) {
    return absl::InvalidArgumentError("the answer does not follow the prompt token by token");
  }
  return text;
}

}  // namespace

absl::StatusOr<std::vector<QualityText>> ReadGoldenTexts(const std::string& file) {
  ASSIGN_OR_RETURN(const std::string content, ReadFile(file));
  const nlohmann::json json = nlohmann::json::parse(content, nullptr, false);
  const nlohmann::json* cases = Field(json, "cases");
  if (cases == nullptr || !cases->is_array() || cases->empty())
    return absl::InvalidArgumentError(absl::StrCat(file, " has no array \"cases\""));
  std::vector<QualityText> texts;
  for (size_t i = 0; i < cases->size(); ++i) {
    QualityText& text = texts.emplace_back();
    const bool prompt = AppendIds(Field((*cases)[i], "prompt_ids"), text.tokens);
    text.answer_begin = text.tokens.size();
    if (!prompt || !AppendIds(Field((*cases)[i], "completion_ids"), text.tokens)) {
      return absl::InvalidArgumentError(absl::StrCat(
          file, ": case ", i, " has no token ids as \"prompt_ids\" and ", "\"completion_ids\""));
    }
  }
  return texts;
}

absl::StatusOr<std::vector<QualityText>> ReadConversations(
    const std::string& file, const tokenizer::Tokenizer& tokenizer,
    const tokenizer::ChatTemplate& chat_template) {
  ASSIGN_OR_RETURN(const std::string content, ReadFile(file));
  std::vector<QualityText> texts;
  std::istringstream lines(content);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    const nlohmann::json* prompt = Field(json, "prompt");
    const nlohmann::json* reference = Field(json, "reference");
    if (prompt == nullptr || !prompt->is_string() || reference == nullptr ||
        !reference->is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(
          file, ", line ", number, ": no object with the strings \"prompt\" and \"reference\""));
    }
    absl::StatusOr<QualityText> text = Conversation(
        prompt->get<std::string>(), reference->get<std::string>(), tokenizer, chat_template);
    if (!text.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ", line ", number, ": ", std::string(text.status().message())));
    }
    texts.push_back(*std::move(text));
  }
  return texts;
}

}  // namespace sluice::bench
