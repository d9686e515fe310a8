#include "api/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fake_tokenizer.h"

namespace sluice::api {
namespace {

using scheduler::FailedEvent;
using scheduler::FinishedEvent;
using scheduler::PromptLogprobsEvent;
using scheduler::StartedEvent;
using scheduler::StreamEvent;
using scheduler::TokenEvent;
using testing::Bytes;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using testing::FakeTokenizer;
using ::testing::SizeIs;

constexpr auto kStopToken = scheduler::FinishReason::kStopToken;
constexpr auto kLength = scheduler::FinishReason::kLength;

std::vector<StreamEvent> Tokens(const std::vector<TokenId>& ids) {
  std::vector<StreamEvent> events;
  for (const TokenId id : ids) events.push_back(TokenEvent{.token = id});
  return events;
}

std::vector<StreamEvent> operator+(std::vector<StreamEvent> events, StreamEvent last) {
  events.push_back(std::move(last));
  return events;
}

class AnswerTest : public ::testing::Test {
 protected:
  Answer Make(std::vector<std::string> stop_strings = {}, bool skip_special_tokens = true) const {
    return Answer(tokenizer_,
                  {"id", 7, {FakeTokenizer::kEos}, std::move(stop_strings), skip_special_tokens});
  }

  FakeTokenizer tokenizer_;
};

TEST_F(AnswerTest, StartsWithWhatThePromptCost) {
  Answer answer = Make();
  const auto messages = answer.Consume({StartedEvent{3}});
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].started().request_id(), "id");
  EXPECT_EQ(messages[0].started().prompt_tokens(), 7);
  EXPECT_EQ(messages[0].started().cached_prompt_tokens(), 3);
  EXPECT_FALSE(answer.end().has_value());
}

TEST_F(AnswerTest, TokensThatAreThereTogetherMakeOneDelta) {
  Answer answer = Make();
  auto messages = answer.Consume(Tokens(Bytes("hello")));
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].delta().text(), "hello");
  EXPECT_THAT(messages[0].delta().token_ids(), ElementsAreArray(Bytes("hello")));
  messages = answer.Consume(Tokens(Bytes(" you")));
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].delta().text(), " you");
  EXPECT_THAT(answer.Consume({}), SizeIs(0));
}

TEST_F(AnswerTest, EndsWithReasonAndUsage) {
  Answer answer = Make();
  const auto messages = answer.Consume(Tokens(Bytes("abc")) + FinishedEvent{.reason = kLength});
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_EQ(messages[0].delta().text(), "abc");
  const v1::Finished& finished = messages[1].finished();
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finished.matched_stop_case(), v1::Finished::MATCHED_STOP_NOT_SET);
  EXPECT_EQ(finished.usage().prompt_tokens(), 7);
  EXPECT_EQ(finished.usage().generated_tokens(), 3);
  ASSERT_TRUE(answer.end().has_value());
  EXPECT_TRUE(answer.end()->ok());
  EXPECT_TRUE(answer.engine_done());
}

TEST_F(AnswerTest, AStopTokenIsReportedButNotInTheText) {
  for (const bool skip_special_tokens : {true, false}) {
    Answer answer = Make({}, skip_special_tokens);
    const auto messages =
        answer.Consume(Tokens({'a', FakeTokenizer::kEos}) + FinishedEvent{.reason = kStopToken});
    ASSERT_THAT(messages, SizeIs(2));
    EXPECT_EQ(messages[0].delta().text(), "a");
    EXPECT_THAT(messages[0].delta().token_ids(), ElementsAre('a', FakeTokenizer::kEos));
    EXPECT_EQ(messages[1].finished().reason(), v1::FINISH_REASON_STOP);
    EXPECT_EQ(messages[1].finished().stop_token_id(), FakeTokenizer::kEos);
    EXPECT_EQ(messages[1].finished().usage().generated_tokens(), 2);
  }
}

TEST_F(AnswerTest, SpecialTokensAreInTheTextOnlyIfWanted) {
  Answer skipping = Make();
  EXPECT_EQ(skipping.Consume(Tokens({'a', FakeTokenizer::kBos, 'b'}))[0].delta().text(), "ab");
  Answer keeping = Make({}, false);
  EXPECT_EQ(keeping.Consume(Tokens({'a', FakeTokenizer::kBos, 'b'}))[0].delta().text(), "a<bos>b");
}

TEST_F(AnswerTest, IdsThatTheTokenizerDoesNotKnowMakeNoText) {
  Answer answer = Make();
  const auto messages = answer.Consume(Tokens({'a', 900, 'b'}));
  EXPECT_EQ(messages[0].delta().text(), "ab");
  EXPECT_THAT(messages[0].delta().token_ids(), ElementsAre('a', 900, 'b'));
}

TEST_F(AnswerTest, HalfACharacterIsHeldBackAndReplacedAtTheEnd) {
  Answer answer = Make();
  const auto euro = Bytes("€");
  EXPECT_EQ(answer.Consume(Tokens({'x', euro[0]}))[0].delta().text(), "x");
  EXPECT_EQ(answer.Consume(Tokens({euro[1]}))[0].delta().text(), "");
  EXPECT_EQ(answer.Consume(Tokens({euro[2]}))[0].delta().text(), "€");
  EXPECT_EQ(answer.Consume(Tokens({euro[0]}))[0].delta().text(), "");
  const auto messages = answer.Consume({FinishedEvent{.reason = kLength}});
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_EQ(messages[0].delta().text(), "\uFFFD");
  EXPECT_THAT(messages[0].delta().token_ids(), SizeIs(0));
}

TEST_F(AnswerTest, AStopStringEndsTheAnswerBeforeItselfWhateverTheEngineStillSays) {
  Answer answer = Make({"never", "END"});
  EXPECT_EQ(answer.Consume(Tokens(Bytes("abE")))[0].delta().text(), "ab");
  const auto messages = answer.Consume(Tokens(Bytes("NDxyz")));
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_EQ(messages[0].delta().text(), "");
  EXPECT_THAT(messages[0].delta().token_ids(), ElementsAreArray(Bytes("ND")));
  EXPECT_EQ(messages[1].finished().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(messages[1].finished().stop_string(), "END");
  EXPECT_EQ(messages[1].finished().usage().generated_tokens(), 5);
  EXPECT_TRUE(answer.end()->ok());
  EXPECT_FALSE(answer.engine_done());
  EXPECT_THAT(answer.Consume(Tokens(Bytes("more")) + FailedEvent{absl::CancelledError("")}),
              SizeIs(0));
  EXPECT_TRUE(answer.engine_done());
  EXPECT_TRUE(answer.end()->ok());
}

TEST_F(AnswerTest, WhatMightHaveBecomeAStopStringIsReleasedAtTheEnd) {
  Answer answer = Make({"END"});
  EXPECT_EQ(answer.Consume(Tokens(Bytes("EN")))[0].delta().text(), "");
  const auto messages =
      answer.Consume(Tokens({FakeTokenizer::kEos}) + FinishedEvent{.reason = kStopToken});
  EXPECT_EQ(messages[0].delta().text(), "EN");
  EXPECT_EQ(messages[1].finished().stop_token_id(), FakeTokenizer::kEos);
}

TEST_F(AnswerTest, AFailureComesAfterTheTokensBeforeIt) {
  Answer answer = Make();
  const auto messages =
      answer.Consume(Tokens(Bytes("ab")) + FailedEvent{absl::DeadlineExceededError("late")});
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].delta().text(), "ab");
  EXPECT_EQ(answer.end(), absl::DeadlineExceededError("late"));
}

TEST_F(AnswerTest, LogprobsCarryTheTextOfEachTokenAlone) {
  Answer answer = Make();
  const model::TokenLogprob logprob{'a', -0.5f, {{'a', -0.5f}, {0xE2, -2}, {900, -3}}};
  const auto messages = answer.Consume(
      {PromptLogprobsEvent{{{'p', -1.5f, {}}}}, TokenEvent{.token = 'a', .logprob = logprob},
       TokenEvent{.token = FakeTokenizer::kEos,
                  .logprob = model::TokenLogprob{FakeTokenizer::kEos, -1, {}}}});
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_EQ(messages[0].prompt_logprobs().logprobs(0).text(), "p");
  EXPECT_EQ(messages[0].prompt_logprobs().logprobs(0).logprob(), -1.5f);
  const v1::Delta& delta = messages[1].delta();
  ASSERT_EQ(delta.logprobs_size(), 2);
  EXPECT_EQ(delta.logprobs(0).token_id(), 'a');
  EXPECT_EQ(delta.logprobs(0).logprob(), -0.5f);
  ASSERT_EQ(delta.logprobs(0).top_size(), 3);
  EXPECT_EQ(delta.logprobs(0).top(1).text(), "\uFFFD");
  EXPECT_EQ(delta.logprobs(0).top(1).logprob(), -2);
  EXPECT_EQ(delta.logprobs(0).top(2).token_id(), 900);
  EXPECT_EQ(delta.logprobs(0).top(2).text(), "");
  EXPECT_EQ(delta.logprobs(1).text(), "<eos>");
}

TEST_F(AnswerTest, MessagesStayBelowWhatClientsAccept) {
  Answer answer = Make();
  model::TokenLogprob logprob{'a', -0.5f, {}};
  for (int i = 0; i < 20; ++i) logprob.top.emplace_back('a', -1.0f);
  std::vector<StreamEvent> events = {
      PromptLogprobsEvent{std::vector<model::TokenLogprob>(2500, logprob)}};
  for (int i = 0; i < 2500; ++i) events.push_back(TokenEvent{.token = 'a', .logprob = logprob});
  int prompt_logprobs = 0;
  std::string text;
  for (const auto& message : answer.Consume(std::move(events))) {
    EXPECT_LT(message.ByteSizeLong(), 1u << 20);
    prompt_logprobs += message.prompt_logprobs().logprobs_size();
    text += message.delta().text();
    EXPECT_EQ(message.delta().token_ids_size(), message.delta().logprobs_size());
  }
  EXPECT_EQ(prompt_logprobs, 2500);
  EXPECT_EQ(text, std::string(2500, 'a'));
}

}  // namespace
}  // namespace sluice::api
