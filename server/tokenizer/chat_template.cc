#include "tokenizer/chat_template.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "tokenizer/jinja/evaluator.h"
#include "tokenizer/jinja/lexer.h"
#include "tokenizer/jinja/parser.h"
#include "tokenizer/jinja/value.h"
#include "tokenizer/json_depth.h"

namespace sluice::tokenizer {
namespace {

using jinja::Value;
using Json = nlohmann::json;

// Holds the text of all added tokens, so it may be large.
constexpr size_t kMaxConfigBytes = size_t{64} << 20;

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::Status FieldError(absl::string_view field, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("field '", field, "' ", problem));
}

// The contents of the file `path`; nullopt if there is none.
absl::StatusOr<std::optional<std::string>> ReadIfPresent(const std::string& path,
                                                         size_t max_bytes) {
  std::error_code error;
  if (!std::filesystem::exists(path, error) && !error) return std::nullopt;
  const auto num_bytes = std::filesystem::file_size(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.message()));
  if (num_bytes > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", num_bytes, " bytes, more than the limit of ", max_bytes));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(num_bytes, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(num_bytes))) {
    return absl::InvalidArgumentError(absl::StrCat(path, " cannot be read"));
  }
  return text;
}

// The text of a special token: a string, or the `content` of an object.
absl::StatusOr<std::string> TokenText(absl::string_view field, const Json& token) {
  if (token.is_null()) return std::string();
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object()) {
    const auto content = token.find("content");
    if (content != token.end() && content->is_string()) return content->get<std::string>();
  }
  return FieldError(field, "is neither a string, null, nor an object with a string 'content'");
}

// Empty if there is none.
absl::StatusOr<std::string> SpecialToken(const Json& config, const char* field) {
  const auto token = config.find(field);
  return token == config.end() ? std::string() : TokenText(field, *token);
}

absl::StatusOr<ChatTemplate::SpecialTokens> ReadSpecialTokens(const Json& config) {
  constexpr char kAdditional[] = "additional_special_tokens";
  constexpr char kExtra[] = "extra_special_tokens";
  ChatTemplate::SpecialTokens tokens;
  ASSIGN_OR_RETURN(tokens.bos_token, SpecialToken(config, "bos_token"));
  ASSIGN_OR_RETURN(tokens.eos_token, SpecialToken(config, "eos_token"));
  for (const char* name : {"unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    ASSIGN_OR_RETURN(tokens.others[name], SpecialToken(config, name));
  }
  if (const auto list = config.find(kAdditional); list != config.end() && list->is_array()) {
    for (const Json& token : *list) {
      ASSIGN_OR_RETURN(std::string text, TokenText(kAdditional, token));
      tokens.additional_special_tokens.push_back(std::move(text));
    }
  }
  if (const auto named = config.find(kExtra); named != config.end() && named->is_object()) {
    for (const auto& [name, token] : named->items()) {
      ASSIGN_OR_RETURN(tokens.others[name], TokenText(absl::StrCat(kExtra, ".", name), token));
    }
  }
  return tokens;
}

// The template called "default" of a list of {"name": ..., "template": ...}.
absl::StatusOr<std::string> DefaultTemplate(const Json& templates) {
  std::vector<std::string> names;
  for (const Json& entry : templates) {
    const auto name = entry.is_object() ? entry.find("name") : entry.end();
    const auto text = entry.is_object() ? entry.find("template") : entry.end();
    if (name == entry.end() || !name->is_string() || text == entry.end() || !text->is_string()) {
      return FieldError("chat_template", "has an entry without a string 'name' and 'template'");
    }
    if (*name == "default") return text->get<std::string>();
    names.push_back(name->get<std::string>());
  }
  return FieldError("chat_template", absl::StrCat("has no template called 'default', only: ",
                                                  absl::StrJoin(names, ", ")));
}

// The template that the configuration holds itself; nullopt if it has none.
absl::StatusOr<std::optional<std::string>> TemplateOfConfig(const Json& config) {
  const auto field = config.find("chat_template");
  if (field == config.end() || field->is_null()) return std::nullopt;
  if (field->is_string()) return field->get<std::string>();
  if (field->is_array()) return DefaultTemplate(*field);
  return FieldError("chat_template", "is neither a string nor a list");
}

struct TemplateConfig {
  ChatTemplate::SpecialTokens special_tokens;
  std::optional<std::string> chat_template;
};

absl::StatusOr<TemplateConfig> ParseConfig(const std::string& text, bool needs_template) {
  if (!IsWithinJsonDepth(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat("this is nested more than ", kMaxJsonDepth, " deep"));
  }
  const Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return absl::InvalidArgumentError("this is not a JSON object");
  TemplateConfig result;
  ASSIGN_OR_RETURN(result.special_tokens, ReadSpecialTokens(config));
  if (needs_template) {
    ASSIGN_OR_RETURN(result.chat_template, TemplateOfConfig(config));
  }
  return result;
}

jinja::Variables BaseVariables(ChatTemplate::SpecialTokens special_tokens) {
  jinja::Variables variables;
  special_tokens.others["bos_token"] = std::move(special_tokens.bos_token);
  special_tokens.others["eos_token"] = std::move(special_tokens.eos_token);
  for (auto& [name, text] : special_tokens.others) {
    if (!text.empty()) variables[name] = Value::String(std::move(text));
  }
  Value::Elements additional;
  for (std::string& text : special_tokens.additional_special_tokens) {
    additional.push_back(Value::String(std::move(text)));
  }
  if (!additional.empty()) {
    variables["additional_special_tokens"] = Value::List(std::move(additional));
  }
  variables["tools"] = Value::None();
  variables["documents"] = Value::None();
  return variables;
}

}  // namespace

struct ChatTemplate::Program {
  jinja::Body body;
  jinja::Variables variables;  // that every rendering has
};

ChatTemplate::ChatTemplate(std::unique_ptr<const Program> program) : program_(std::move(program)) {}
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(const std::string& folder) {
  const std::string jinja_path = absl::StrCat(folder, "/chat_template.jinja");
  const std::string config_path = absl::StrCat(folder, "/tokenizer_config.json");
  ASSIGN_OR_RETURN(std::optional<std::string> source,
                   ReadIfPresent(jinja_path, jinja::kMaxSourceBytes));
  ASSIGN_OR_RETURN(const std::optional<std::string> config_text,
                   ReadIfPresent(config_path, kMaxConfigBytes));

  TemplateConfig config;
  if (config_text.has_value()) {
    auto parsed = ParseConfig(*config_text, /*needs_template=*/!source.has_value());
    if (!parsed.ok()) return InFile(config_path, parsed.status());
    config = *std::move(parsed);
  }
  const std::string& path = source.has_value() ? jinja_path : config_path;
  if (!source.has_value()) source = std::move(config.chat_template);
  if (!source.has_value()) {
    return absl::NotFoundError(
        absl::StrCat(folder,
                     " has no chat template: there is neither chat_template.jinja nor a field "
                     "'chat_template' in tokenizer_config.json"));
  }
  auto result = Parse(*source, std::move(config.special_tokens));
  if (!result.ok()) return InFile(path, result.status());
  return result;
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(absl::string_view source,
                                                                  SpecialTokens special_tokens) {
  ASSIGN_OR_RETURN(jinja::Body body, jinja::Parse(source));
  auto program = std::make_unique<Program>();
  program->body = std::move(body);
  program->variables = BaseVariables(std::move(special_tokens));
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(program)));
}

absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages,
                                                 bool add_generation_prompt) const {
  Value::Elements list;
  list.reserve(messages.size());
  for (const ChatMessage& message : messages) {
    list.push_back(Value::Dict({{Value::String("role"), Value::String(message.role)},
                                {Value::String("content"), Value::String(message.content)}}));
  }
  return Render(
      Value::Dict({{Value::String("messages"), Value::List(std::move(list))},
                   {Value::String("add_generation_prompt"), Value::Bool(add_generation_prompt)}}));
}

absl::StatusOr<std::string> ChatTemplate::Render(const jinja::Value& variables) const {
  CHECK(variables.is(Value::Kind::kDict));
  jinja::Variables all = program_->variables;
  for (const auto& [name, value] : variables.entries()) {
    CHECK(name.is(Value::Kind::kString));
    all[name.as_string()] = value;
  }
  return jinja::Evaluate(program_->body, all);
}

}  // namespace sluice::tokenizer
