// What of prompts and answers is kept for the access log. What its lines hold is in access_test.cc.
#include "api/call_record.h"

#include <gtest/gtest.h>

#include <string>

#include "api/access_log.h"
#include "metrics/server_metrics.h"

namespace sluice::api {
namespace {

constexpr size_t kMaxText = 64 * 1024;

class CallRecordTest : public ::testing::Test {
 protected:
  LoggedTexts TextsOf(const v1::GenerateRequest& request) { return *TextsToLog(api_, request); }

  const ServerFacts facts_;
  metrics::ServerMetrics metrics_{{}};
  ModelSlot slot_;
  ActiveCalls active_calls_{1};
  TextThread text_thread_{1};
  std::unique_ptr<AccessLog> log_ = *AccessLog::Open({.file = "/dev/null", .log_prompts = true});
  ApiContext api_{facts_,
                  base::Clock::System(),
                  metrics_.requests(),
                  slot_,
                  active_calls_,
                  text_thread_,
                  nullptr,
                  log_.get()};
};

TEST_F(CallRecordTest, OfAPromptAsMuchIsKeptAsALineHolds) {
  v1::GenerateRequest text;
  text.set_request_id(std::string(1000, 'i'));
  text.set_text(std::string(1'000'000, 'x'));
  v1::GenerateRequest ids;
  v1::GenerateRequest chat;
  v1::GenerateRequest silent;
  for (int i = 0; i < 100'000; ++i) {
    ids.mutable_token_ids()->add_ids(999'999);
    v1::ChatMessage& message = *chat.mutable_chat()->add_messages();
    message.set_role(std::string(100, 'r'));
    message.set_content("hello");
    silent.mutable_chat()->add_messages();
  }
  EXPECT_EQ(TextsOf(text).prompt.text(), std::string(kMaxText, 'x'));
  EXPECT_EQ(TextsOf(ids).prompt.token_ids().ids_size(), kMaxText / 8);
  EXPECT_EQ(TextsOf(chat).prompt.chat().messages(0).content(), "hello");
  for (const v1::GenerateRequest& request : {text, ids, chat, silent}) {
    const LoggedTexts texts = TextsOf(request);
    EXPECT_GT(texts.prompt.ByteSizeLong(), 0u);
    EXPECT_LE(texts.prompt.ByteSizeLong(), kMaxText + 16 * 1024);
    EXPECT_LE(texts.prompt.chat().messages_size(), static_cast<int>(kMaxText) / 64);
    EXPECT_EQ(texts.prompt.request_id(), "");
  }
  text.set_text("short");
  EXPECT_EQ(TextsOf(text).prompt.text(), "short");
}

TEST_F(CallRecordTest, OfAnAnswerAsMuchIsKeptAsALineHolds) {
  LoggedTexts texts = TextsOf({});
  v1::GenerateResponse delta;
  delta.mutable_delta()->set_choice(1);
  delta.mutable_delta()->set_text(std::string(1000, 'x'));
  for (int i = 0; i < 200; ++i) AddAnswer(delta, texts);
  delta.mutable_delta()->set_choice(0);
  delta.mutable_delta()->set_text("a");
  AddAnswer(delta, texts);
  AddAnswer(delta, texts);
  ASSERT_EQ(texts.answers.size(), 2u);
  EXPECT_EQ(texts.answers[0], "aa");
  EXPECT_EQ(texts.answers[1], std::string(kMaxText, 'x'));
}

}  // namespace
}  // namespace sluice::api
