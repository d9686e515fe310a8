// Renders the templates of chat_templates/*.json and compares with what Jinja made of them.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "golden_dir.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/jinja/json.h"

namespace sluice::golden {
namespace {

using Json = nlohmann::ordered_json;
using tokenizer::ChatTemplate;

std::vector<std::string> TemplateFiles() {
  std::vector<std::string> files;
  for (const std::string& name : GoldenCases("chat_templates")) {
    if (std::filesystem::path(name).extension() == ".json") files.push_back(name);
  }
  return files;
}

// All that the template may see by name: the special tokens, then what the case gives.
Json Variables(const Json& globals, const Json& c) {
  Json variables = Json::object();
  for (const auto& [name, value] : globals.items()) {
    if (name.ends_with("_token") && value.is_string()) variables[name] = value;
  }
  for (const char* name : {"messages", "tools", "documents", "add_generation_prompt"}) {
    variables[name] = c.at(name);
  }
  for (const auto& [name, value] : c.at("kwargs").items()) variables[name] = value;
  return variables;
}

void ExpectRendered(const absl::StatusOr<std::string>& text, const Json& c) {
  if (!c.contains("error")) {
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, c.at("expected").get<std::string>());
    return;
  }
  const Json& error = c.at("error");
  ASSERT_FALSE(text.ok()) << "rendered \"" << *text << "\", should fail: " << error;
  if (error.at("kind") == "raise_exception") {
    EXPECT_NE(text.status().message().find(error.at("message").get<std::string>()),
              absl::string_view::npos)
        << text.status();
  }
}

class ChatTemplatesTest : public testing::TestWithParam<std::string> {};

TEST_P(ChatTemplatesTest, RendersAsJinja) {
  std::ifstream file(GoldenDir() / "chat_templates" / GetParam());
  const Json golden = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(golden.is_object()) << GetParam() << " is not a JSON object";
  const Json& globals = golden.at("globals");
  ASSERT_TRUE(globals.at("trim_blocks") == true && globals.at("lstrip_blocks") == true);

  const auto parsed = ChatTemplate::Parse(golden.at("template").get<std::string>(), {});
  for (const Json& c : golden.at("cases")) {
    SCOPED_TRACE(c.at("name").get<std::string>());
    if (!parsed.ok()) {
      ExpectRendered(parsed.status(), c);
      continue;
    }
    const auto variables = tokenizer::jinja::FromJson(Variables(globals, c));
    ASSERT_TRUE(variables.ok()) << variables.status();
    ExpectRendered((*parsed)->Render(*variables), c);
  }
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ChatTemplatesTest);
INSTANTIATE_TEST_SUITE_P(Golden, ChatTemplatesTest, testing::ValuesIn(TemplateFiles()),
                         [](const auto& test) {
                           return TestName(std::filesystem::path(test.param).stem());
                         });

}  // namespace
}  // namespace sluice::golden
