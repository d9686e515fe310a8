// What comes between a prompt and its answer, over a real connection, with a tokenizer whose
// decoder takes a blank from the beginning of a text.
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "inference/grpc_predict_v2.grpc.pb.h"
#include "test_server.h"

namespace sluice::api {
namespace {

using nlohmann::json;
using testing::FakeTokenizer;
using testing::TestServer;

// Every ASCII character is its own token; those from A on are a blank and the small letter. Special
// tokens are the FakeTokenizer's.
std::unique_ptr<tokenizer::Tokenizer> BlankTokenizer() {
  json vocab = {{"<s>", FakeTokenizer::kBos}, {"</s>", FakeTokenizer::kEos}};
  for (char c = ' '; c < 127; ++c) {
    const bool is_upper = c >= 'A' && c <= 'Z';
    vocab[is_upper ? "▁" + std::string(1, static_cast<char>(c + 32)) : std::string(1, c)] = c;
  }
  json special = json::array();
  for (const char* content : {"<s>", "</s>"}) {
    special.push_back({{"id", vocab[content]}, {"content", content}, {"special", true}});
  }
  const json begin = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json file = {
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}},
      {"added_tokens", special},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {begin, text}},
        {"special_tokens",
         {{"<s>", {{"id", "<s>"}, {"ids", {FakeTokenizer::kBos}}, {"tokens", {"<s>"}}}}}}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         {{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
          {{"type", "Fuse"}},
          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}}};
  auto tokenizer = tokenizer::Tokenizer::Parse(file.dump(), "blank.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

class PromptTextTest : public ::testing::Test {
 protected:
  // The texts of the choices.
  std::vector<std::string> Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    const auto stub = server_.generation();
    const auto reader = stub->Generate(&context, request);
    std::vector<std::string> texts(request.has_num_choices() ? request.num_choices() : 1);
    v1::GenerateResponse message;
    while (reader->Read(&message)) texts[message.delta().choice()] += message.delta().text();
    EXPECT_TRUE(reader->Finish().ok());
    return texts;
  }

  std::unique_ptr<tokenizer::Tokenizer> tokenizer_ = BlankTokenizer();
  TestServer server_{{.scripts = {"AbC~"}, .tokenizer = tokenizer_.get()}};
};

TEST_F(PromptTextTest, TheBlankBetweenPromptAndAnswerIsThere) {
  const std::vector<TokenId> all = {FakeTokenizer::kBos, '0', 'A', 'b', 'C'};
  const std::string whole = tokenizer_->Decode(all, {});
  EXPECT_EQ(whole, "0 ab c");
  v1::GenerateRequest text;
  text.set_text("0");
  v1::GenerateRequest ids;
  for (const TokenId id : {FakeTokenizer::kBos + 0, TokenId{'0'}})
    ids.mutable_token_ids()->add_ids(id);
  for (v1::GenerateRequest request : {text, ids}) {
    request.set_num_choices(2);
    EXPECT_EQ(Generate(request), std::vector<std::string>(2, " ab c"));
    request.mutable_response()->set_echo(true);
    EXPECT_EQ(Generate(request), std::vector<std::string>(2, whole));
  }
}

TEST_F(PromptTextTest, KserveAnswersHaveItToo) {
  inference::ModelInferRequest request;
  request.set_model_name("fake");
  auto& input = *request.add_inputs();
  input.set_name("text_input");
  input.set_datatype("BYTES");
  input.add_shape(1);
  input.mutable_contents()->add_bytes_contents("0");
  const auto infer = [&] {
    grpc::ClientContext context;
    inference::ModelInferResponse response;
    const auto stub = inference::GRPCInferenceService::NewStub(server_.channel);
    EXPECT_TRUE(stub->ModelInfer(&context, request, &response).ok());
    return response.outputs(0).contents().bytes_contents(0);
  };
  EXPECT_EQ(infer(), "0 ab c");
  auto& exclude = *request.add_inputs();
  exclude.set_name("exclude_input_in_output");
  exclude.set_datatype("BOOL");
  exclude.add_shape(1);
  exclude.mutable_contents()->add_bool_contents(true);
  EXPECT_EQ(infer(), " ab c");
}

}  // namespace
}  // namespace sluice::api
