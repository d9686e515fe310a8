// FakeServer: a Sluice server in this process, on a free port of the loopback device, that answers
// as a test tells it to.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "sluice/v1/control.grpc.pb.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::client {

using EventWriter = grpc::ServerWriter<v1::GenerateResponse>;

v1::GenerateResponse StartedEvent();
// A delta of one token.
v1::GenerateResponse DeltaEvent(const std::string& text, int32_t token_id = 7);
v1::GenerateResponse FinishedEvent(int generated_tokens);

// A well-behaved answer: started, one delta per word of "Hello, world!", finished.
grpc::Status SayHello(const v1::GenerateRequest& request, EventWriter& writer);

// Three choices at the same time: "one", "two and a half" and nothing. If it is asked to "fail", it
// does before the first is complete.
grpc::Status SayThreeThings(const v1::GenerateRequest& request, EventWriter& writer);

// Writes deltas until the call is gone.
grpc::Status TalkForever(const v1::GenerateRequest& request, EventWriter& writer);

class FakeServer : public v1::Generation::Service, public v1::Control::Service {
 public:
  using GenerateHandler = std::function<grpc::Status(const v1::GenerateRequest&, EventWriter&)>;

  FakeServer();
  ~FakeServer() override;

  const std::string& address() const { return address_; }

  // What answers Generate from now on, given its call; called from several threads at a time.
  void OnGenerateCall(
      std::function<grpc::Status(grpc::ServerContext&, const v1::GenerateRequest&, EventWriter&)>
          handler);
  // The same for who does not care about the call; called from several threads at a time. SayHello
  // at first.
  void OnGenerate(GenerateHandler handler);
  // From how many connections Generate was called.
  size_t num_peers() const;
  // The requests that came, in order.
  std::vector<v1::GenerateRequest> requests() const;

  // What the unary calls answer; set before the first call.
  v1::GetServerInfoResponse server_info;
  v1::GetModelInfoResponse model_info;
  v1::GetLoadResponse load;
  // GetExpertLoad answers these one after another, and then UNAVAILABLE.
  std::vector<v1::GetExpertLoadResponse> expert_loads;
  // For all unary calls but Tokenize and Detokenize.
  grpc::Status unary_status;
  // So many calls of GetLoad answer UNAVAILABLE first.
  std::atomic<int> load_failures{0};

  void SetServing(const std::string& service, bool serving);

 private:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        EventWriter* writer) override;
  grpc::Status Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status Detokenize(grpc::ServerContext* context, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override;
  grpc::Status GetServerInfo(grpc::ServerContext* context, const v1::GetServerInfoRequest* request,
                             v1::GetServerInfoResponse* response) override;
  grpc::Status GetModelInfo(grpc::ServerContext* context, const v1::GetModelInfoRequest* request,
                            v1::GetModelInfoResponse* response) override;
  grpc::Status GetLoad(grpc::ServerContext* context, const v1::GetLoadRequest* request,
                       v1::GetLoadResponse* response) override;
  grpc::Status GetExpertLoad(grpc::ServerContext* context, const v1::GetExpertLoadRequest* request,
                             v1::GetExpertLoadResponse* response) override;
  grpc::Status Abort(grpc::ServerContext* context, const v1::AbortRequest* request,
                     v1::AbortResponse* response) override;

  mutable base::Mutex mutex_;
  std::function<grpc::Status(grpc::ServerContext&, const v1::GenerateRequest&, EventWriter&)>
      handler_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> peers_ ABSL_GUARDED_BY(mutex_);
  std::atomic<size_t> next_expert_load_{0};
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sluice::client
