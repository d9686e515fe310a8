#include "fake_server.h"

#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace sluice::client {

v1::GenerateResponse StartedEvent() {
  v1::GenerateResponse event;
  event.mutable_started()->set_request_id("r1");
  event.mutable_started()->set_prompt_tokens(5);
  return event;
}

v1::GenerateResponse DeltaEvent(const std::string& text, int32_t token_id) {
  v1::GenerateResponse event;
  event.mutable_delta()->set_text(text);
  event.mutable_delta()->add_token_ids(token_id);
  return event;
}

v1::GenerateResponse FinishedEvent(int generated_tokens) {
  v1::GenerateResponse event;
  event.mutable_finished()->set_reason(v1::FINISH_REASON_LENGTH);
  event.mutable_finished()->mutable_usage()->set_prompt_tokens(5);
  event.mutable_finished()->mutable_usage()->set_generated_tokens(generated_tokens);
  return event;
}

grpc::Status SayHello(const v1::GenerateRequest&, EventWriter& writer) {
  writer.Write(StartedEvent());
  writer.Write(DeltaEvent("Hello,"));
  writer.Write(DeltaEvent(" world!"));
  writer.Write(FinishedEvent(2));
  return grpc::Status::OK;
}

grpc::Status SayThreeThings(const v1::GenerateRequest& request, EventWriter& writer) {
  writer.Write(StartedEvent());
  const auto write = [&](int choice, const std::string& text) {
    v1::GenerateResponse event = DeltaEvent(text);
    event.mutable_delta()->set_choice(choice);
    writer.Write(event);
  };
  const auto finish = [&](int choice, int tokens) {
    v1::GenerateResponse event = FinishedEvent(tokens);
    event.mutable_finished()->set_choice(choice);
    writer.Write(event);
  };
  write(1, "two ");
  write(0, "one");
  write(2, "");
  finish(2, 1);
  write(1, "and a half");
  if (request.text() == "fail") return {grpc::StatusCode::UNAVAILABLE, "gone"};
  finish(0, 3);
  finish(1, 2);
  return grpc::Status::OK;
}

grpc::Status TalkForever(const v1::GenerateRequest&, EventWriter& writer) {
  writer.Write(StartedEvent());
  while (writer.Write(DeltaEvent("blah "))) {
  }
  return grpc::Status::CANCELLED;
}

FakeServer::FakeServer() {
  OnGenerate(SayHello);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(static_cast<v1::Generation::Service*>(this));
  builder.RegisterService(static_cast<v1::Control::Service*>(this));
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeServer::~FakeServer() {
  // Calls that a failed test left behind end at once.
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

void FakeServer::OnGenerateCall(
    std::function<grpc::Status(grpc::ServerContext&, const v1::GenerateRequest&, EventWriter&)>
        handler) {
  base::MutexLock lock(mutex_);
  handler_ = std::move(handler);
}

void FakeServer::OnGenerate(GenerateHandler handler) {
  OnGenerateCall(
      [handler = std::move(handler)](auto&, const v1::GenerateRequest& request,
                                     EventWriter& writer) { return handler(request, writer); });
}

size_t FakeServer::num_peers() const {
  base::MutexLock lock(mutex_);
  return peers_.size();
}

std::vector<v1::GenerateRequest> FakeServer::requests() const {
  base::MutexLock lock(mutex_);
  return requests_;
}

void FakeServer::SetServing(const std::string& service, bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(service, serving);
}

grpc::Status FakeServer::Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                                  EventWriter* writer) {
  std::function<grpc::Status(grpc::ServerContext&, const v1::GenerateRequest&, EventWriter&)>
      handler;
  {
    base::MutexLock lock(mutex_);
    requests_.push_back(*request);
    peers_.insert(context->peer());
    handler = handler_;
  }
  return handler(*context, *request, *writer);
}

// One token per byte.
grpc::Status FakeServer::Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                                  v1::TokenizeResponse* response) {
  std::string text = request->text();
  for (const v1::ChatMessage& message : request->chat().messages()) {
    absl::StrAppend(&text, message.role(), ":", message.content());
    response->set_rendered_prompt(text);
  }
  for (const unsigned char byte : text) {
    response->add_token_ids(byte);
    if (request->pieces()) response->add_pieces(std::string(1, static_cast<char>(byte)));
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                                    v1::DetokenizeResponse* response) {
  for (const int32_t id : request->token_ids()) {
    response->mutable_text()->push_back(static_cast<char>(id));
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*,
                                       v1::GetServerInfoResponse* response) {
  *response = server_info;
  return unary_status;
}

grpc::Status FakeServer::GetModelInfo(grpc::ServerContext*, const v1::GetModelInfoRequest*,
                                      v1::GetModelInfoResponse* response) {
  *response = model_info;
  return unary_status;
}

grpc::Status FakeServer::GetLoad(grpc::ServerContext*, const v1::GetLoadRequest*,
                                 v1::GetLoadResponse* response) {
  if (load_failures-- > 0) return {grpc::StatusCode::UNAVAILABLE, "not now"};
  *response = load;
  return unary_status;
}

grpc::Status FakeServer::GetExpertLoad(grpc::ServerContext*, const v1::GetExpertLoadRequest*,
                                       v1::GetExpertLoadResponse* response) {
  const size_t i = next_expert_load_++;
  if (i >= expert_loads.size()) return {grpc::StatusCode::UNAVAILABLE, "no more"};
  *response = expert_loads[i];
  return unary_status;
}

grpc::Status FakeServer::Abort(grpc::ServerContext*, const v1::AbortRequest* request,
                               v1::AbortResponse*) {
  return {grpc::StatusCode::NOT_FOUND, absl::StrCat("no request ", request->request_id())};
}

}  // namespace sluice::client
