#include "api/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fake_tokenizer.h"
#include "tokenizer/utf8.h"

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

std::vector<StreamEvent> Tokens(const std::vector<TokenId>& ids, int choice = 0) {
  std::vector<StreamEvent> events;
  for (const TokenId id : ids) events.push_back(TokenEvent{.choice = choice, .token = id});
  return events;
}

// The texts of `messages` by choice, `f` in place of each finished.
std::map<int, std::string> Texts(const std::vector<v1::GenerateResponse>& messages) {
  std::map<int, std::string> texts;
  for (const v1::GenerateResponse& message : messages) {
    if (message.has_delta()) texts[message.delta().choice()] += message.delta().text();
    if (message.has_finished()) texts[message.finished().choice()] += "|f";
  }
  return texts;
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
  Answer MakeWith(Answer::Options options) const {
    options.request_id = "id";
    options.prompt_tokens = 7;
    options.stop_token_ids = {FakeTokenizer::kEos};
    return Answer(tokenizer_, std::move(options));
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

TEST_F(AnswerTest, EachChoiceHasItsOwnTextAndEnd) {
  Answer answer = MakeWith({.num_choices = 3});
  answer.Consume({StartedEvent{3}});
  const auto euro = Bytes("€");
  // As the engine makes them: a token of each choice in each step.
  std::vector<StreamEvent> events;
  for (const auto& [choice, token] : std::vector<std::pair<int, TokenId>>{
           {0, 'a'}, {1, euro[0]}, {2, 'x'}, {0, 'b'}, {1, euro[1]}, {2, FakeTokenizer::kEos}}) {
    events.push_back(TokenEvent{.choice = choice, .token = token});
  }
  events.push_back(FinishedEvent{.choice = 2, .reason = kStopToken});
  auto messages = answer.Consume(std::move(events));
  ASSERT_THAT(messages, SizeIs(4)) << "one delta for each choice, and one end";
  EXPECT_EQ(messages[0].delta().choice(), 0);
  EXPECT_THAT(messages[0].delta().token_ids(), ElementsAre('a', 'b'));
  EXPECT_EQ(messages[1].delta().choice(), 1);
  EXPECT_THAT(messages[1].delta().token_ids(), ElementsAre(euro[0], euro[1]));
  EXPECT_EQ(messages[2].delta().choice(), 2);
  EXPECT_EQ(messages[3].finished().choice(), 2);
  EXPECT_EQ(messages[3].finished().reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(messages[3].finished().usage().generated_tokens(), 2);
  EXPECT_EQ(messages[3].finished().usage().cached_prompt_tokens(), 3);
  EXPECT_FALSE(answer.end().has_value());

  messages =
      answer.Consume(Tokens({euro[2], 'z'}, 1) + FinishedEvent{.choice = 1, .reason = kLength});
  EXPECT_EQ(Texts(messages), (std::map<int, std::string>{{1, "€z|f"}}));
  EXPECT_FALSE(answer.end().has_value());
  EXPECT_FALSE(answer.engine_done());
  messages = answer.Consume({FinishedEvent{.choice = 0, .reason = kLength}});
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].finished().usage().generated_tokens(), 2);
  EXPECT_EQ(answer.end(), absl::OkStatus());
  EXPECT_TRUE(answer.engine_done());
  EXPECT_EQ(answer.generated_tokens(), 8);
  EXPECT_THAT(answer.TakeStopped(), ElementsAre());
}

TEST_F(AnswerTest, AStopStringEndsOneChoiceWhileTheOthersGoOn) {
  Answer answer = MakeWith({.stop_strings = {"END"}, .num_choices = 2});
  EXPECT_EQ(Texts(answer.Consume(Tokens(Bytes("aEND"), 1))),
            (std::map<int, std::string>{{1, "a|f"}}));
  EXPECT_FALSE(answer.end().has_value());
  EXPECT_THAT(answer.TakeStopped(), ElementsAre(1));
  EXPECT_THAT(answer.TakeStopped(), ElementsAre()) << "each is reported once";
  // The engine may be in a step.
  EXPECT_THAT(answer.Consume(Tokens(Bytes("xyz"), 1)), SizeIs(0));
  EXPECT_EQ(Texts(answer.Consume(Tokens(Bytes("bE")))), (std::map<int, std::string>{{0, "b"}}));
  const auto messages = answer.Consume({FinishedEvent{.choice = 0, .reason = kLength}});
  EXPECT_EQ(Texts(messages), (std::map<int, std::string>{{0, "E|f"}}));
  EXPECT_EQ(answer.end(), absl::OkStatus());
  EXPECT_TRUE(answer.engine_done()) << "choice 1 was cancelled there";
  EXPECT_EQ(answer.generated_tokens(), 6);
}

TEST_F(AnswerTest, WhenStopStringsEndAllChoicesTheRequestIsCancelledAsAWhole) {
  Answer answer = MakeWith({.stop_strings = {"!"}, .num_choices = 2});
  auto events = Tokens(Bytes("a!"));
  for (StreamEvent& event : Tokens(Bytes("b!"), 1)) events.push_back(std::move(event));
  EXPECT_EQ(Texts(answer.Consume(std::move(events))),
            (std::map<int, std::string>{{0, "a|f"}, {1, "b|f"}}));
  EXPECT_EQ(answer.end(), absl::OkStatus());
  EXPECT_FALSE(answer.engine_done());
  EXPECT_THAT(answer.TakeStopped(), ElementsAre());
}

TEST_F(AnswerTest, WhatTheEngineEndedMeanwhileIsNotCancelled) {
  Answer answer = MakeWith({.stop_strings = {"!"}, .num_choices = 2});
  answer.Consume(Tokens(Bytes("a!")) + FinishedEvent{.choice = 0, .reason = kLength});
  EXPECT_THAT(answer.TakeStopped(), ElementsAre());
}

TEST_F(AnswerTest, AFailureEndsAllChoices) {
  Answer answer = MakeWith({.num_choices = 2});
  const auto messages =
      answer.Consume(Tokens(Bytes("a")) + FinishedEvent{.choice = 0, .reason = kLength} +
                     FailedEvent{absl::UnavailableError("gone")});
  EXPECT_EQ(Texts(messages), (std::map<int, std::string>{{0, "a|f"}}));
  EXPECT_EQ(answer.end(), absl::UnavailableError("gone"));
  EXPECT_TRUE(answer.engine_done());
}

TEST_F(AnswerTest, StopStringsDoNotEndAnAnswerWithItsFirstTokens) {
  Answer answer = MakeWith({.stop_strings = {"ab", "cd"}, .min_tokens = 3});
  // "ab" is complete with the second token and "cd" with the fourth.
  const auto messages = answer.Consume(Tokens(Bytes("abcdef")));
  EXPECT_EQ(Texts(messages), (std::map<int, std::string>{{0, "ab|f"}}));
  EXPECT_EQ(messages.back().finished().stop_string(), "cd");
  EXPECT_EQ(messages.back().finished().usage().generated_tokens(), 4);
  Answer longer = MakeWith({.stop_strings = {"ab", "cd"}, .min_tokens = 4});
  EXPECT_EQ(Texts(longer.Consume(Tokens(Bytes("abcdef")))),
            (std::map<int, std::string>{{0, "abcdef"}}));
}

TEST_F(AnswerTest, WhatEndedTheAnswerMayStayInIt) {
  Answer by_string = MakeWith({.stop_strings = {"END"}, .include_stop = true});
  EXPECT_EQ(Texts(by_string.Consume(Tokens(Bytes("abENDxy")))),
            (std::map<int, std::string>{{0, "abEND|f"}}));
  for (const bool skip_special_tokens : {true, false}) {
    Answer by_token = MakeWith({.skip_special_tokens = skip_special_tokens, .include_stop = true});
    EXPECT_EQ(Texts(by_token.Consume(Tokens({'a', FakeTokenizer::kEos}) +
                                     FinishedEvent{.reason = kStopToken})),
              (std::map<int, std::string>{{0, skip_special_tokens ? "a|f" : "a<eos>|f"}}));
  }
}

TEST_F(AnswerTest, AnEchoComesFirstInEachChoiceAndIsNotSearchedForStopStrings) {
  Answer answer = MakeWith({.stop_strings = {"pt"}, .num_choices = 2, .echo = "prompt"});
  EXPECT_EQ(Texts(answer.Consume({StartedEvent{}})), (std::map<int, std::string>{}));
  auto messages = answer.Consume(Tokens(Bytes("ab"), 1));
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].delta().text(), "promptab");
  EXPECT_THAT(messages[0].delta().token_ids(), ElementsAre('a', 'b'));
  messages = answer.Consume(Tokens({'c'}, 1));
  EXPECT_EQ(messages[0].delta().text(), "c");
  messages = answer.Consume(Tokens({FakeTokenizer::kEos}) + FinishedEvent{.reason = kStopToken});
  EXPECT_EQ(Texts(messages), (std::map<int, std::string>{{0, "prompt|f"}}));
}

TEST_F(AnswerTest, ACharacterThatThePromptBeginsIsTheAnswers) {
  const auto euro = Bytes("€");
  const std::vector<TokenId> prompt = {'p', euro[0], euro[1]};
  const tokenizer::DecodeContext context = tokenizer::ContextOf(tokenizer_, prompt, {});
  ASSERT_EQ(context.open_text, "\uFFFD\uFFFD");
  const auto text_of = [&](const std::string& echo, const std::vector<TokenId>& ids) {
    Answer answer = MakeWith({.stop_strings = {"\uFFFD", "p"}, .context = context, .echo = echo});
    return Texts(answer.Consume(Tokens(ids) + FinishedEvent{.reason = kLength}))[0];
  };
  EXPECT_EQ(text_of("", {euro[2], 'x'}), "€x|f");
  EXPECT_EQ(text_of("p\uFFFD\uFFFD", {euro[2], 'x'}), "p€x|f");
  // One that stays incomplete is the prompt's, and no stop string is looked for in it.
  EXPECT_EQ(text_of("", {'x'}), "x|f");
  EXPECT_EQ(text_of("p\uFFFD\uFFFD", {'x'}), "p\uFFFD\uFFFDx|f");
  EXPECT_EQ(text_of("p\uFFFD\uFFFD", {FakeTokenizer::kEos}), "p\uFFFD\uFFFD|f");
  // A text that is not that of its tokens is given back as it came.
  EXPECT_EQ(text_of("P", {euro[2], 'x'}), "P€x|f");
  EXPECT_EQ(text_of("P", {'x'}), "Px|f");
}

TEST_F(AnswerTest, ALongEchoComesInSeveralMessagesOfWholeCharacters) {
  std::string echo = "x";
  while (echo.size() < 3 * kMaxEchoBytes) echo += "€";
  Answer answer = MakeWith({.echo = echo});
  const auto messages = answer.Consume(Tokens({'a'}));
  EXPECT_THAT(messages, SizeIs(4));
  for (const v1::GenerateResponse& message : messages) {
    EXPECT_LE(message.delta().text().size(), kMaxEchoBytes + 1);
    EXPECT_TRUE(tokenizer::IsValidUtf8(message.delta().text()));
  }
  EXPECT_EQ(Texts(messages)[0], echo + "a");
}

TEST_F(AnswerTest, NorDoesWhatAPromptLeavesOpenMakeAMessageOfAnEchoLonger) {
  const auto euro = Bytes("€");
  const std::vector<TokenId> prompt = {'p', euro[0], euro[1]};
  for (const size_t left : {1, 3, 5, 6}) {
    const std::string echo = std::string(kMaxEchoBytes - left, 'p') + "\uFFFD\uFFFD";
    Answer answer =
        MakeWith({.context = tokenizer::ContextOf(tokenizer_, prompt, {}), .echo = echo});
    const auto messages = answer.Consume(Tokens({'x'}));
    EXPECT_THAT(messages, SizeIs(2));
    for (const v1::GenerateResponse& message : messages) {
      EXPECT_LE(message.delta().text().size(), kMaxEchoBytes);
      EXPECT_TRUE(tokenizer::IsValidUtf8(message.delta().text()));
    }
    EXPECT_EQ(Texts(messages)[0], echo + "x");
  }
}

// What docs/architecture.md says of unread answers hangs on these.
TEST_F(AnswerTest, AnEventTakesFewBytes) {
  EXPECT_LE(sizeof(StreamEvent), 64u);
  EXPECT_LE(sizeof(model::TokenLogprob), 32u);
  EXPECT_EQ(sizeof(model::TokenLogprob::top[0]), 8u);
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
