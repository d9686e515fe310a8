// The bundled model over gRPC: the greedy texts and the expert counts of models/demo/golden.json,
// alone and all at once, from GetExpertLoad and from the metrics page.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server_process.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice {
namespace {

// [layer][expert]
using ExpertCounts = std::vector<std::vector<int64_t>>;

struct Case {
  v1::ChatPrompt chat;
  std::vector<int> prompt_ids;
  std::string text;
  std::vector<int> ids;
  ExpertCounts experts;
};

std::vector<Case> ReadCases() {
  std::ifstream file(SLUICE_SOURCE_DIR "/models/demo/golden.json");
  const auto golden = nlohmann::json::parse(file);
  std::vector<Case> cases;
  for (const auto& entry : golden["cases"]) {
    Case& c = cases.emplace_back();
    for (const auto& message : entry["messages"]) {
      v1::ChatMessage& wire = *c.chat.add_messages();
      wire.set_role(message["role"].get<std::string>());
      wire.set_content(message["content"].get<std::string>());
    }
    c.prompt_ids = entry["prompt_ids"].get<std::vector<int>>();
    c.text = entry["completion"].get<std::string>();
    c.ids = entry["completion_ids"].get<std::vector<int>>();
    // The last token is drawn, but no longer computed.
    c.experts = entry["expert_tokens_fed"].get<ExpertCounts>();
  }
  return cases;
}

void Accumulate(const ExpertCounts& from, int sign, ExpertCounts& to) {
  to.resize(from.size());
  for (size_t layer = 0; layer < from.size(); ++layer) {
    to[layer].resize(from[layer].size());
    for (size_t expert = 0; expert < from[layer].size(); ++expert) {
      to[layer][expert] += sign * from[layer][expert];
    }
  }
}

class DemoModelTest : public ::testing::Test {
 protected:
  // The golden texts are of the f32 forward pass.
  DemoModelTest() : server_({"--weights=f32", "--kv_cache_bytes=64MiB"}) {
    channel_ = grpc::CreateChannel(server_.grpc_address(), grpc::InsecureChannelCredentials());
    EXPECT_NE(server_.AwaitLog("ready model=demo"), "");
  }

  ExpertCounts LoadOverGrpc() const {
    grpc::ClientContext context;
    v1::GetExpertLoadResponse response;
    EXPECT_TRUE(v1::Control::NewStub(channel_)->GetExpertLoad(&context, {}, &response).ok());
    ExpertCounts counts;
    for (const auto& layer : response.layers()) {
      EXPECT_EQ(layer.layer(), static_cast<int>(counts.size()));
      counts.emplace_back(layer.tokens().begin(), layer.tokens().end());
    }
    return counts;
  }

  ExpertCounts LoadFromMetrics() {
    const std::string page = testing::Scrape(server_.metrics_address());
    ExpertCounts counts(6, std::vector<int64_t>(8, -1));
    for (int layer = 0; layer < 6; ++layer) {
      for (int expert = 0; expert < 8; ++expert) {
        const std::string names[] = {absl::StrCat("\nsluice_expert_tokens_total{layer=\"", layer,
                                                  "\",expert=\"", expert, "\"} "),
                                     absl::StrCat("\nsluice_expert_tokens_total{expert=\"", expert,
                                                  "\",layer=\"", layer, "\"} ")};
        for (const std::string& name : names) {
          const size_t at = page.find(name);
          if (at == std::string::npos) continue;
          double value = -1;
          const size_t begin = at + name.size();
          EXPECT_TRUE(absl::SimpleAtod(page.substr(begin, page.find('\n', begin) - begin), &value));
          counts[layer][expert] = static_cast<int64_t>(value);
        }
      }
    }
    return counts;
  }

  // Asks for the case's answer and compares it.
  void Check(const Case& c) const {
    const auto stub = v1::Generation::NewStub(channel_);
    grpc::ClientContext context;
    v1::GenerateRequest request;
    *request.mutable_chat() = c.chat;
    const auto reader = stub->Generate(&context, request);
    std::string text;
    std::vector<int> ids;
    v1::Started started;
    v1::Finished finished;
    for (v1::GenerateResponse message; reader->Read(&message);) {
      text += message.delta().text();
      ids.insert(ids.end(), message.delta().token_ids().begin(), message.delta().token_ids().end());
      if (message.has_started()) started = message.started();
      if (message.has_finished()) finished = message.finished();
    }
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(started.prompt_tokens(), static_cast<int>(c.prompt_ids.size()));
    EXPECT_EQ(text, c.text);
    EXPECT_EQ(ids, c.ids);
    EXPECT_EQ(finished.reason(), v1::FINISH_REASON_STOP);
    EXPECT_EQ(finished.usage().generated_tokens(), static_cast<int>(c.ids.size()));
  }

  testing::ServerProcess server_;
  std::shared_ptr<grpc::Channel> channel_;
  const std::vector<Case> cases_ = ReadCases();
};

TEST_F(DemoModelTest, AnswersAndExpertCountsAreGolden) {
  ASSERT_EQ(cases_.size(), 24u);
  ExpertCounts before = LoadOverGrpc();
  EXPECT_EQ(before, ExpertCounts(6, std::vector<int64_t>(8, 0)));
  for (const Case& c : cases_) {
    Check(c);
    const ExpertCounts after = LoadOverGrpc();
    EXPECT_EQ(LoadFromMetrics(), after);
    ExpertCounts change = after;
    Accumulate(before, -1, change);
    EXPECT_EQ(change, c.experts) << c.text;
    before = after;
  }
  server_.Signal(SIGTERM);
  EXPECT_EQ(server_.AwaitExit(), 0);
}

TEST_F(DemoModelTest, AllAtOnceTheyAreTheSame) {
  ExpertCounts expected;
  std::vector<std::thread> clients;
  for (const Case& c : cases_) {
    Accumulate(c.experts, 1, expected);
    clients.emplace_back([&] { Check(c); });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(LoadOverGrpc(), expected);
  EXPECT_EQ(LoadFromMetrics(), expected);
  grpc::ClientContext context;
  v1::GetLoadResponse load;
  EXPECT_TRUE(v1::Control::NewStub(channel_)->GetLoad(&context, {}, &load).ok());
  int64_t alone = 0;
  for (const Case& c : cases_) alone += static_cast<int64_t>(c.ids.size());
  EXPECT_EQ(load.generated_tokens(), alone);
  EXPECT_LT(load.steps(), alone) << "they did not run in batches";
}

}  // namespace
}  // namespace sluice
