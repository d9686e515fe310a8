#include "cli/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sluice/v1/control.pb.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::cli {
namespace {

TEST(JsonTest, EventsKeepNamesNumbersAndOrder) {
  v1::GenerateResponse event;
  v1::Delta& delta = *event.mutable_delta();
  delta.set_text("a\n\"b\"");
  delta.add_token_ids(3);
  v1::TokenLogprob& logprob = *delta.add_logprobs();
  logprob.set_token_id(3);
  logprob.set_logprob(-0.1f);
  logprob.add_top()->set_logprob(-std::numeric_limits<float>::infinity());
  EXPECT_EQ(
      Dump(ToJson(event)),
      R"({"delta":{"choice":0,"text":"a\n\"b\"","token_ids":[3],"logprobs":[{"token_id":3,)"
      R"("text":"","logprob":-0.1,"top":[{"token_id":0,"text":"","logprob":null,"top":[]}]}]}})");
}

TEST(JsonTest, LeavesOutWhatIsNotSet) {
  v1::GenerateResponse event;
  event.mutable_finished()->set_reason(v1::FINISH_REASON_STOP);
  event.mutable_finished()->set_stop_token_id(0);
  EXPECT_EQ(Dump(ToJson(event)),
            R"({"finished":{"choice":0,"reason":"FINISH_REASON_STOP","stop_token_id":0}})");
}

TEST(JsonTest, MapsAreObjects) {
  v1::SamplingOptions sampling;
  (*sampling.mutable_logit_bias())[7] = -0.5f;
  (*sampling.mutable_logit_bias())[12] = 100;
  EXPECT_EQ(Dump(ToJson(sampling)), R"({"logit_bias":{"12":100.0,"7":-0.5}})");
}

TEST(JsonTest, LargeNumbersTimesAndDurationsAreReadable) {
  v1::GetExpertLoadResponse load;
  load.mutable_time()->set_seconds(1'700'000'000);
  load.mutable_time()->set_nanos(500'000'000);
  load.set_steps(int64_t{1} << 53);
  v1::LayerExpertLoad& layer = *load.add_layers();
  layer.add_weight(0.25);
  layer.mutable_time()->set_seconds(2);
  layer.mutable_time()->set_nanos(250'000'000);
  const auto json = ToJson(load);
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.5+00:00");
  EXPECT_EQ(json["steps"], 9007199254740992);
  EXPECT_EQ(json["layers"][0]["weight"][0], 0.25);
  EXPECT_EQ(json["layers"][0]["time"], 2.25);
}

TEST(JsonTest, BytesThatAreNotTextAreReplaced) { EXPECT_EQ(Dump("a\xff"), "\"a\xef\xbf\xbd\""); }

}  // namespace
}  // namespace sluice::cli
