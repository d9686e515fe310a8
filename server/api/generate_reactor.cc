#include "api/generate_reactor.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "api/wire_message.h"

namespace sluice::api {

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateReactor::Start(
    ApiContext& api, grpc::CallbackServerContext& context, const grpc::ByteBuffer& request) {
  return TakeOn(std::shared_ptr<GenerateReactor>(new GenerateReactor(api, context)), request);
}

GenerateReactor::GenerateReactor(ApiContext& api, grpc::CallbackServerContext& context)
    : RequestCall(api, metrics::Method::kGenerate, context) {}

absl::StatusOr<v1::GenerateRequest> GenerateReactor::ParseRequest(const grpc::ByteBuffer& bytes) {
  return Parse<v1::GenerateRequest>(bytes);
}

void GenerateReactor::OnWriteDone(bool ok) {
  {
    base::MutexLock lock(mutex_);
    write_in_flight_ = false;
    if (!ok) cancelled_ = true;
  }
  Advance();
}

GenerateReactor::Move GenerateReactor::Decide() {
  if (write_in_flight_) return Move::kNothing;
  if (cancelled_) return Move::kFinish;
  if (outbox_.empty()) {
    auto messages = request_->Read();
    std::move(messages.begin(), messages.end(), std::back_inserter(outbox_));
  }
  if (outbox_.empty()) return request_->end() ? Move::kFinish : Move::kNothing;
  message_ = Serialize(outbox_.front());
  outbox_.pop_front();
  if (outbox_.empty() && request_->end()) return Move::kWriteAndFinish;
  write_in_flight_ = true;
  return Move::kWrite;
}

void GenerateReactor::Do(Move move, grpc::Status status) {
  switch (move) {
    case Move::kNothing:
      return;
    case Move::kWrite:
      return StartWrite(&message_);
    case Move::kWriteAndFinish:
      return StartWriteAndFinish(&message_, grpc::WriteOptions(), std::move(status));
    case Move::kFinish:
      return Finish(std::move(status));
  }
}

}  // namespace sluice::api
