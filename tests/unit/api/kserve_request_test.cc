#include "api/kserve_request.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "api/kserve_sampling.h"
#include "api/kserve_tensors.h"
#include "api/status_mapping.h"

namespace sluice::api {
namespace {

using inference::ModelInferRequest;

std::string RawBytes(const std::string& element) {
  std::string raw;
  for (int i = 0; i < 4; ++i) raw.push_back(static_cast<char>(element.size() >> 8 * i));
  return raw + element;
}

ModelInferRequest::InferInputTensor& AddInput(ModelInferRequest& request, const std::string& name,
                                              const std::string& datatype) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype(datatype);
  input.add_shape(1);
  return input;
}

// A request with typed contents; no sampling_parameters if they are empty.
ModelInferRequest Typed(const std::string& sampling_parameters = "") {
  ModelInferRequest request;
  request.set_model_name("m");
  AddInput(request, "text_input", "BYTES").mutable_contents()->add_bytes_contents("hi");
  if (!sampling_parameters.empty()) {
    AddInput(request, "sampling_parameters", "BYTES")
        .mutable_contents()
        ->add_bytes_contents(sampling_parameters);
  }
  return request;
}

ModelInferRequest Raw() {
  ModelInferRequest request;
  request.set_model_name("m");
  AddInput(request, "text_input", "BYTES");
  AddInput(request, "stream", "BOOL");
  request.add_raw_input_contents(RawBytes("hi"));
  request.add_raw_input_contents(std::string(1, '\1'));
  return request;
}

// Merges a message in text form.
ModelInferRequest With(ModelInferRequest request, const std::string& text) {
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, &request)) << text;
  return request;
}

TEST(KserveRequestTest, BothFormsOfDataMeanTheSame) {
  ModelInferRequest typed = Typed();
  AddInput(typed, "stream", "BOOL").mutable_contents()->add_bool_contents(true);
  for (const ModelInferRequest& wire : {typed, Raw()}) {
    const auto parsed = ParseKserve(wire, true);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->request.text(), "hi");
    EXPECT_EQ(parsed->request.model(), "m");
    EXPECT_FALSE(parsed->request.has_request_id());
    EXPECT_TRUE(parsed->reply.stream);
    EXPECT_EQ(parsed->reply.raw, wire.raw_input_contents_size() > 0);
    EXPECT_FALSE(parsed->request.response().echo());
  }
}

TEST(KserveRequestTest, TheReplyHasTheIdAndShapeOfTheRequest) {
  ModelInferRequest wire =
      With(Typed(), "id: '7' model_version: '1' outputs { name: 'text_output' }");
  wire.mutable_inputs(0)->add_shape(1);
  const auto parsed = ParseKserve(wire, false);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto response = MakeResponse(parsed->reply, "answer");
  EXPECT_EQ(response.ShortDebugString(),
            "model_name: \"m\" model_version: \"1\" id: \"7\" outputs { name: \"text_output\" "
            "datatype: \"BYTES\" shape: 1 shape: 1 contents { bytes_contents: \"answer\" } }");
}

TEST(KserveRequestTest, RawAnswersHaveTheirLengthInFront) {
  KserveReply reply;
  reply.raw = true;
  const std::string text(300, 'x');
  const auto response = MakeResponse(reply, text);
  EXPECT_FALSE(response.outputs(0).has_contents());
  ASSERT_EQ(response.raw_output_contents_size(), 1);
  EXPECT_EQ(response.raw_output_contents(0), std::string("\x2c\x01\0\0", 4) + text);
}

TEST(KserveRequestTest, ThePromptComesBackUnlessItIsExcludedOrTheAnswerIsStreamed) {
  const std::string exclude =
      "inputs { name: 'exclude_input_in_output' datatype: 'BOOL' shape: 1 contents { "
      "bool_contents: ";
  const auto echoes = [](const ModelInferRequest& wire, bool may_stream) {
    return ParseKserve(wire, may_stream)->request.response().echo();
  };
  EXPECT_TRUE(echoes(Typed(), false));
  EXPECT_TRUE(echoes(With(Typed(), exclude + "false } }"), false));
  EXPECT_FALSE(echoes(With(Typed(), exclude + "true } }"), false));
  EXPECT_FALSE(echoes(Raw(), true));
}

TEST(KserveRequestTest, SamplingParametersBecomeOptions) {
  struct Case {
    const char* json;
    // Of the GenerateRequest, beside model and text.
    const char* options;
  };
  const std::vector<Case> cases = {
      {"{}", ""},
      {R"({"temperature": 0.5, "top_k": 5, "top_p": 1, "min_p": 0.25, "seed": 7})",
       "sampling { temperature: 0.5 top_k: 5 top_p: 1 min_p: 0.25 seed: 7 }"},
      {R"({"temperature": "0.5", "top_k": "5", "top_p": "1", "min_p": "0.25", "seed": "7"})",
       "sampling { temperature: 0.5 top_k: 5 top_p: 1 min_p: 0.25 seed: 7 }"},
      {R"({"seed": 18446744073709551615})", "sampling { seed: 18446744073709551615 }"},
      {R"({"seed": "18446744073709551615"})", "sampling { seed: 18446744073709551615 }"},
      {R"({"temperature": 0})", "sampling { temperature: 0 }"},
      {R"({"temperature": 1e300})", "sampling { temperature: inf }"},
      {R"({"top_k": -1})", "sampling { top_k: 0 }"},
      {R"({"top_k": "-1"})", "sampling { top_k: 0 }"},
      {R"({"top_k": -2})", "sampling { top_k: -2 }"},
      {R"({"max_tokens": 9, "ignore_eos": true})", "stopping { max_tokens: 9 ignore_eos: true }"},
      {R"({"max_tokens": "9", "ignore_eos": "True"})",
       "stopping { max_tokens: 9 ignore_eos: true }"},
      {R"({"typical_p": 0.5, "repetition_penalty": "1.25", "presence_penalty": 1,
            "frequency_penalty": -0.5})",
       "sampling { typical_p: 0.5 repetition_penalty: 1.25 presence_penalty: 1 "
       "frequency_penalty: -0.5 }"},
      {R"({"logit_bias": {"7": 1.5, "9": -2}})",
       "sampling { logit_bias { key: 7 value: 1.5 } logit_bias { key: 9 value: -2 } }"},
      {R"({"min_tokens": 3, "include_stop_str_in_output": true})",
       "stopping { min_tokens: 3 include_stop: true }"},
      {R"({"stop": "a"})", "stopping { stop_strings: 'a' }"},
      {R"({"stop": ["a", "b c"]})", "stopping { stop_strings: 'a' stop_strings: 'b c' }"},
      {R"({"stop": [], "seed": null, "stop_token_ids": null})", "stopping { }"},
      {R"({"stop_token_ids": [1, "2"]})", "stopping { stop_token_ids: 1 stop_token_ids: 2 }"},
      {R"({"skip_special_tokens": false})", "response { skip_special_tokens: false }"},
      {R"({"n": 1})", ""},
      {R"({"n": "1"})", ""},
      {R"({"n": null})", ""},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.json);
    v1::GenerateRequest expected;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
        absl::StrCat("model: 'm' text: 'hi' ", c.options), &expected));
    expected.mutable_response()->set_echo(true);
    const auto parsed = ParseKserve(Typed(c.json), false);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->request.DebugString(), expected.DebugString());
  }
}

TEST(KserveRequestTest, ParametersCountOnlyWithoutTheTensor) {
  const std::string parameters =
      "parameters { key: 'temperature' value { string_param: '0.5' } }"
      "parameters { key: 'top_k' value { int64_param: 3 } }"
      "parameters { key: 'seed' value { int64_param: 4 } }"
      "parameters { key: 'top_p' value { double_param: 0.5 } }"
      "parameters { key: 'max_tokens' value { uint64_param: 6 } }"
      "parameters { key: 'ignore_eos' value { bool_param: true } }"
      "parameters { key: 'triton_enable_empty_final_response' value { bool_param: true } }";
  const auto without = ParseKserve(With(Typed(), parameters), false);
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_EQ(without->request.ShortDebugString(),
            "model: \"m\" text: \"hi\" sampling { temperature: 0.5 top_k: 3 top_p: 0.5 seed: 4 } "
            "stopping { max_tokens: 6 ignore_eos: true } response { echo: true }");
  EXPECT_TRUE(without->reply.empty_final);
  const auto with = ParseKserve(With(Typed(R"({"top_k": 1})"), parameters), false);
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_EQ(with->request.ShortDebugString(),
            "model: \"m\" text: \"hi\" sampling { top_k: 1 } response { echo: true }");
}

TEST(KserveRequestTest, SamplingParametersMayNotBeNestedDeep) {
  v1::GenerateRequest request;
  const std::string deep =
      R"({"stop": )" + std::string(30'000, '[') + std::string(30'000, ']') + "}";
  EXPECT_EQ(ReadSamplingTensor(deep, request).message(),
            "sampling_parameters: is nested more than 64 deep");
}

TEST(KserveRequestTest, FieldsHaveTheNamesOfTensorsAndParameters) {
  KserveReply reply;
  const auto name_of = [&reply](absl::string_view field) {
    const absl::Status status = InKserveTerms(reply, FieldError(field, "is wrong: very"));
    EXPECT_TRUE(absl::EndsWith(status.message(), ": is wrong: very"));
    return std::string(status.message().substr(0, status.message().find(": ")));
  };
  EXPECT_EQ(name_of("text"), "text_input");
  EXPECT_EQ(name_of("prompt"), "text_input");
  EXPECT_EQ(name_of("max_tokens"), "sampling_parameters.max_tokens");
  EXPECT_EQ(name_of("sampling.logit_bias[7]"), "sampling_parameters.logit_bias[7]");
  EXPECT_EQ(name_of("stopping.stop_strings[2]"), "sampling_parameters.stop[2]");
  EXPECT_EQ(name_of("stopping.include_stop"), "sampling_parameters.include_stop_str_in_output");
  reply.sampling_tensor = false;
  EXPECT_EQ(name_of("stopping.stop_strings"), "parameters.stop");
  // What has such a name already keeps it, as does what no client of KServe sets.
  for (const char* field : {"stream", "id", "sampling_parameters.top_k", "num_choices"}) {
    EXPECT_EQ(name_of(field), field);
  }
  EXPECT_EQ(InKserveTerms(reply, absl::NotFoundError("model: \"x\" is not served here")),
            absl::NotFoundError("model_name: \"x\" is not served here"));
  const absl::Status full = absl::ResourceExhaustedError("text: a message like any other");
  EXPECT_EQ(InKserveTerms(reply, full), full);
}

TEST(KserveRequestTest, WhatIsWrongIsNamed) {
  struct Case {
    std::string name;
    ModelInferRequest wire;
    // With which the message begins.
    std::string field;
    absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  };
  const auto sampling = [](const std::string& json) { return Typed(json); };
  const auto raw_text = [](const std::string& raw) {
    ModelInferRequest request = Raw();
    request.set_raw_input_contents(0, raw);
    return request;
  };
  const auto raw_stream = [](const std::string& raw) {
    ModelInferRequest request = Raw();
    request.set_raw_input_contents(1, raw);
    return request;
  };
  ModelInferRequest nameless = Typed();
  nameless.clear_model_name();
  ModelInferRequest no_inputs = Typed();
  no_inputs.clear_inputs();
  ModelInferRequest missing_data = Typed();
  missing_data.mutable_inputs(0)->clear_contents();
  ModelInferRequest wrong_type = Typed();
  wrong_type.mutable_inputs(0)->set_datatype("FP32");
  ModelInferRequest scalar = Typed();
  scalar.mutable_inputs(0)->clear_shape();
  ModelInferRequest not_utf8 = Typed();
  not_utf8.mutable_inputs(0)->mutable_contents()->set_bytes_contents(0, "a\xff");
  ModelInferRequest huge_key = sampling("{\"" + std::string(5000, 'k') + "\": 1}");
  ModelInferRequest huge = sampling("{\"stop\": \"" + std::string(70'000, 's') + "\"}");
  const std::vector<Case> cases = {
      {"no model", nameless, "model_name"},
      {"another version", With(Typed(), "model_version: '2'"), "model_version",
       absl::StatusCode::kNotFound},
      {"a long id", With(Typed(), absl::StrCat("id: '", std::string(129, 'x'), "'")), "id"},
      {"no inputs", no_inputs, "text_input"},
      {"an unknown input", With(Typed(), "inputs { name: 'image' datatype: 'BYTES' shape: 1 }"),
       "inputs[1]"},
      {"an input twice",
       With(Typed(),
            "inputs { name: 'text_input' datatype: 'BYTES' shape: 1 contents "
            "{ bytes_contents: 'x' } }"),
       "text_input"},
      {"a wrong datatype", wrong_type, "text_input"},
      {"no shape", scalar, "text_input"},
      {"a shape of two", With(Typed(), "inputs { name: 'stream' datatype: 'BOOL' shape: 2 }"),
       "stream"},
      {"a negative shape", With(Typed(), "inputs { name: 'stream' datatype: 'BOOL' shape: -1 }"),
       "stream"},
      {"three dimensions",
       With(Typed(), "inputs { name: 'stream' datatype: 'BOOL' shape: [1, 1, 1] }"), "stream"},
      {"a parameter of an input",
       With(Typed(),
            "inputs { name: 'stream' datatype: 'BOOL' shape: 1 parameters { key: "
            "'shared_memory_region' value { string_param: 'r' } } }"),
       "stream.parameters.shared_memory_region"},
      {"no data", missing_data, "text_input"},
      {"data of another type",
       With(Typed(),
            "inputs { name: 'stream' datatype: 'BOOL' shape: 1 contents { int_contents: 1 } }"),
       "stream"},
      {"data of two types",
       With(Typed(),
            "inputs { name: 'stream' datatype: 'BOOL' shape: 1 contents { "
            "bool_contents: true int_contents: 1 } }"),
       "stream"},
      {"two elements",
       With(Typed(),
            "inputs { name: 'stream' datatype: 'BOOL' shape: 1 contents { "
            "bool_contents: [true, true] } }"),
       "stream"},
      {"text that is not UTF-8", not_utf8, "text_input"},
      {"raw text that is not UTF-8", raw_text(RawBytes("\xff")), "text_input"},
      {"too little raw data", With(Raw(), "inputs { name: 'x' }"), "raw_input_contents"},
      {"too much raw data", With(Raw(), "raw_input_contents: 'x'"), "raw_input_contents"},
      {"both forms", With(Typed(), "raw_input_contents: 'x'"), "text_input"},
      {"empty raw data", raw_text(""), "text_input"},
      {"a truncated length", raw_text("abc"), "text_input"},
      {"a truncated element", raw_text(RawBytes("abc").substr(0, 6)), "text_input"},
      {"a longer element", raw_text(RawBytes("abc") + "d"), "text_input"},
      {"an element of 4 GiB",
       raw_text("\xff\xff\xff\xff"
                "ab"),
       "text_input"},
      {"a second element", raw_text(RawBytes("a") + RawBytes("b")), "text_input"},
      {"a long boolean", raw_stream("\1\1"), "stream"},
      {"no boolean", raw_stream(""), "stream"},
      {"a boolean of 2", raw_stream("\2"), "stream"},
      {"an unknown output", With(Typed(), "outputs { name: 'logits' }"), "outputs[0]"},
      {"an output twice",
       With(Typed(), "outputs { name: 'text_output' } outputs { name: 'text_output' }"),
       "outputs[1]"},
      {"a parameter of an output",
       With(Typed(),
            "outputs { name: 'text_output' parameters { key: "
            "'classification' value { int64_param: 1 } } }"),
       "outputs[0].parameters.classification"},
      {"no JSON", sampling("{"), "sampling_parameters"},
      {"JSON that is no object", sampling("[1]"), "sampling_parameters"},
      {"deep JSON", sampling(std::string(60'000, '[')), "sampling_parameters"},
      {"JSON that is not UTF-8", sampling("{\"stop\": \"\xff\"}"), "sampling_parameters"},
      {"too much JSON", huge, "sampling_parameters"},
      {"an unknown key", sampling(R"({"best_of": 2})"), "sampling_parameters.best_of"},
      {"an unknown long key", huge_key, "sampling_parameters.kkk"},
      {"two answers", sampling(R"({"n": 2})"), "sampling_parameters.n"},
      {"a list for a number", sampling(R"({"temperature": [1]})"),
       "sampling_parameters.temperature"},
      {"a word for a number", sampling(R"({"temperature": "hot"})"),
       "sampling_parameters.temperature"},
      {"a truth value for a number", sampling(R"({"top_k": true})"), "sampling_parameters.top_k"},
      {"a fraction for an integer", sampling(R"({"max_tokens": 1.5})"),
       "sampling_parameters.max_tokens"},
      {"a large integer", sampling(R"({"max_tokens": 2147483648})"),
       "sampling_parameters.max_tokens"},
      {"a larger integer", sampling(R"({"max_tokens": 18446744073709551615})"),
       "sampling_parameters.max_tokens"},
      {"a negative seed", sampling(R"({"seed": -1})"), "sampling_parameters.seed"},
      {"a number for a truth value", sampling(R"({"ignore_eos": 2})"),
       "sampling_parameters.ignore_eos"},
      {"a number for a text", sampling(R"({"stop": 1})"), "sampling_parameters.stop"},
      {"a number among texts", sampling(R"({"stop": ["a", 1]})"), "sampling_parameters.stop[1]"},
      {"an object for a list", sampling(R"({"stop": {"a": 1}})"), "sampling_parameters.stop"},
      {"an unknown parameter",
       With(Typed(), "parameters { key: 'sequence_id' value { int64_param: 1 } }"),
       "parameters.sequence_id"},
      {"a parameter of another type",
       With(Typed(), "parameters { key: 'top_k' value { bool_param: true } }"), "parameters.top_k"},
      {"an unknown parameter of Triton",
       With(Typed(), "parameters { key: 'triton_x' value { bool_param: true } }"),
       "parameters.triton_x"},
      {"a final response of another type",
       With(Typed(),
            "parameters { key: 'triton_enable_empty_final_response' value { int64_param: 1 } }"),
       "parameters.triton_enable_empty_final_response"},
      {"a stream with its prompt",
       With(Typed(),
            "inputs { name: 'stream' datatype: 'BOOL' shape: 1 contents { bool_contents: true } }"
            "inputs { name: 'exclude_input_in_output' datatype: 'BOOL' shape: 1 contents { "
            "bool_contents: false } }"),
       "exclude_input_in_output"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const absl::Status status = ParseKserve(c.wire, true).status();
    EXPECT_EQ(status.code(), c.code) << status;
    EXPECT_TRUE(absl::StartsWith(std::string(status.message()), c.field)) << status;
    // All of it fits into the headers that gRPC peers accept.
    EXPECT_LT(ToGrpcStatus(status).error_details().size(), 4096u);
  }
  EXPECT_TRUE(
      absl::StartsWith(std::string(ParseKserve(Raw(), false).status().message()), "stream: "));
}

TEST(KserveRequestTest, AnErrorOnAStreamHasCodeIdAndPushback) {
  const KserveReply reply = ReplyTo(With(Typed(), "id: '7'"));
  const auto response = MakeStreamError(
      reply, WithRetryDelay(absl::ResourceExhaustedError("full"), absl::Milliseconds(250)));
  EXPECT_EQ(response.error_message(), "RESOURCE_EXHAUSTED: full");
  EXPECT_EQ(response.infer_response().id(), "7");
  EXPECT_EQ(response.infer_response().outputs_size(), 0);
  EXPECT_TRUE(response.infer_response().parameters().at("triton_final_response").bool_param());
  EXPECT_EQ(response.infer_response().parameters().at("retry_pushback_ms").int64_param(), 250);
  // An id that is too long is not echoed.
  EXPECT_EQ(ReplyTo(With(Typed(), absl::StrCat("id: '", std::string(129, 'x'), "'"))).id, "");
}

}  // namespace
}  // namespace sluice::api
