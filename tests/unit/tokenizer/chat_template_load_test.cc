// Where a checkpoint keeps its chat template and its special tokens.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tokenizer/chat_template.h"

namespace sluice::tokenizer {
namespace {

using testing::HasSubstr;

class ChatTemplateLoadTest : public testing::Test {
 protected:
  ChatTemplateLoadTest() {
    std::string pattern = testing::TempDir() + "/chat_template_XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~ChatTemplateLoadTest() override { std::filesystem::remove_all(folder_); }

  // Replaces the files of the folder.
  void Write(const std::map<std::string, std::string>& files) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    for (const auto& [name, text] : files) {
      std::ofstream(folder_ / name, std::ios::binary) << text;
    }
  }

  std::filesystem::path folder_;
};

constexpr char kJinja[] = "chat_template.jinja";
constexpr char kConfig[] = "tokenizer_config.json";

TEST_F(ChatTemplateLoadTest, FindsTemplateAndSpecialTokens) {
  const std::string source = "T{{ bos_token }}{{ eos_token }}";
  const struct {
    std::map<std::string, std::string> files;
    std::string expected;
  } cases[] = {
      {{{kConfig, R"({"chat_template": "C{{ bos_token }}", "bos_token": "<s>"})"}}, "C<s>"},
      {{{kConfig, R"({"chat_template": "C", "bos_token": "<s>"})"}, {kJinja, source}}, "T<s>"},
      {{{kJinja, source}}, "T"},
      {{{kJinja, "a\n\n"}, {kConfig, "{}"}}, "a\n"},
      {{{kJinja, ""}}, ""},
      {{{kConfig, R"({"chat_template": ""})"}}, ""},
      {{{kJinja, source}, {kConfig, R"({"bos_token": null, "eos_token": {"content": "</s>"}})"}},
       "T</s>"},
      {{{kJinja, source}, {kConfig, R"({"chat_template": 7, "eos_token": "E"})"}}, "TE"},
      {{{kConfig, R"({"chat_template": [{"name": "rag", "template": "R"},
                                        {"name": "default", "template": "D"}]})"}},
       "D"},
  };
  for (const auto& [files, expected] : cases) {
    Write(files);
    const auto loaded = ChatTemplate::Load(folder_);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ((*loaded)->Render({}, false).value(), expected);
  }
}

TEST_F(ChatTemplateLoadTest, TemplatesKnowAllSpecialTokensByTheirNames) {
  const std::string config = R"({
      "unk_token": "<unk>", "sep_token": {"content": "<sep>", "lstrip": false}, "pad_token": "<pad>",
      "cls_token": "<cls>", "mask_token": null, "other_token": "<other>", "tools": "<t>",
      "additional_special_tokens": ["<a>", {"content": "<b>"}],
      "extra_special_tokens": {"image_token": "<image>", "tools": "<t>"}})";
  const struct {
    const char* source;
    const char* expected;
  } cases[] = {
      {"{{ unk_token }}{{ sep_token }}{{ pad_token }}{{ cls_token }}", "<unk><sep><pad><cls>"},
      {"{{ image_token }}", "<image>"},
      {"{{ additional_special_tokens[1] }}", "<b>"},
      {"{% for t in additional_special_tokens %}{{ t }}{% endfor %}", "<a><b>"},
      // Undefined, as what is no special token.
      {"{% if mask_token %}x{% endif %}{{ mask_token }}{{ other_token }}", ""},
      {"{% if tools %}x{% endif %}", ""},
  };
  for (const auto& [source, expected] : cases) {
    Write({{kJinja, source}, {kConfig, config}});
    const auto loaded = ChatTemplate::Load(folder_);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ((*loaded)->Render({}, false).value(), expected) << source;
  }
}

TEST_F(ChatTemplateLoadTest, SaysWhatIsWrongAndWhere) {
  const struct {
    std::map<std::string, std::string> files;
    absl::StatusCode code;
    std::vector<std::string> words;
  } cases[] = {
      {{}, absl::StatusCode::kNotFound, {"no chat template"}},
      {{{kConfig, "{}"}}, absl::StatusCode::kNotFound, {"no chat template"}},
      {{{kConfig, R"({"chat_template": null})"}},
       absl::StatusCode::kNotFound,
       {"no chat template"}},
      {{{kConfig, "{"}}, absl::StatusCode::kInvalidArgument, {kConfig, "not a JSON object"}},
      {{{kConfig, "[]"}}, absl::StatusCode::kInvalidArgument, {kConfig, "not a JSON object"}},
      {{{kConfig, R"({"chat_template": "x", "a": )" + std::string(1'000'000, '[') +
                      std::string(1'000'000, ']') + "}"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "nested more than 64 deep"}},
      {{{kConfig, R"({"chat_template": 7})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'chat_template'"}},
      {{{kConfig, R"({"chat_template": []})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'chat_template'", "'default'"}},
      {{{kConfig, R"({"chat_template": [{"name": "rag", "template": "R"},
                                        {"name": "tool_use", "template": "U"}]})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'chat_template'", "'default'", "rag, tool_use"}},
      {{{kConfig, R"({"chat_template": [{"name": "default"}]})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'chat_template'", "'template'"}},
      {{{kConfig, R"({"chat_template": ["default"]})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'chat_template'"}},
      {{{kConfig, R"({"chat_template": "x", "bos_token": 1})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'bos_token'"}},
      {{{kConfig, R"({"chat_template": "x", "pad_token": 1})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'pad_token'"}},
      {{{kConfig, R"({"chat_template": "x", "additional_special_tokens": ["a", []]})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'additional_special_tokens'"}},
      {{{kConfig, R"({"chat_template": "x", "extra_special_tokens": {"image_token": 7}})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'extra_special_tokens.image_token'"}},
      {{{kConfig, R"({"chat_template": "x", "eos_token": {"content": null}})"}},
       absl::StatusCode::kInvalidArgument,
       {kConfig, "'eos_token'"}},
      {{{kConfig, R"({"chat_template": "a\n{% set x = 1 %}"})"}},
       absl::StatusCode::kUnimplemented,
       {kConfig, "line 2, column 4", "'set'"}},
      {{{kJinja, "{{ x"}},
       absl::StatusCode::kInvalidArgument,
       {kJinja, "line 1, column 5", "'}}'"}},
      {{{kJinja, std::string((1 << 20) + 1, 'x')}},
       absl::StatusCode::kInvalidArgument,
       {kJinja, "1048577 bytes"}},
  };
  for (const auto& [files, code, words] : cases) {
    Write(files);
    const absl::Status status = ChatTemplate::Load(folder_).status();
    EXPECT_EQ(status.code(), code) << status;
    for (const std::string& word : words) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(word));
    }
  }
  EXPECT_EQ(ChatTemplate::Load(folder_ / "missing").status().code(), absl::StatusCode::kNotFound);
  Write({});
  std::filesystem::create_directory(folder_ / kJinja);
  EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(DemoChatTemplateTest, RendersThePromptsOfTheDemo) {
  const std::filesystem::path folder = SLUICE_SOURCE_DIR "/models/demo";
  const auto loaded = ChatTemplate::Load(folder);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  std::ifstream file(folder / "golden.json");
  const auto golden = nlohmann::json::parse(file);
  ASSERT_EQ(golden.at("cases").size(), 24u);
  for (const auto& c : golden.at("cases")) {
    std::vector<ChatMessage> messages;
    for (const auto& message : c.at("messages")) {
      messages.push_back({message.at("role"), message.at("content")});
    }
    EXPECT_EQ((*loaded)->Render(messages, true).value(), c.at("prompt").get<std::string>());
  }
}

}  // namespace
}  // namespace sluice::tokenizer
