// KserveStreamReactor: one ModelStreamInfer call, on which many requests are answered at a time.
//
//   client ->  read: one in flight, while fewer than kMaxOpenRequests are open
//   client <-  write: one in flight, the open requests taking turns
//
// It is finished when the client has no more requests and all are answered, or is gone.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "api/api_context.h"
#include "api/kserve_request.h"
#include "api/live_request.h"
#include "base/mutex.h"

namespace sluice::api {

// Requests of one stream that are open at a time.
inline constexpr size_t kMaxOpenRequests = 64;

// Driven as RequestCall is: by Begin, the engine and gRPC, through Advance.
class KserveStreamReactor final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public std::enable_shared_from_this<KserveStreamReactor> {
 public:
  // Takes on a call. The reactor belongs to gRPC until OnDone, and beyond that to whoever is still
  // calling it.
  static grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Start(
      ApiContext& api, grpc::CallbackServerContext& context);

 private:
  // A request from the moment it was read to the moment its last response was sent.
  struct Open {
    explicit Open(ActiveCalls& calls) : ticket(calls) {}

    ActiveCalls::Ticket ticket;
    // Of its token's.
    std::optional<Caller> place;
    // Null until it was submitted or refused. Nothing happens before.
    std::unique_ptr<LiveRequest> request;
    KserveReply reply;
    // Generated, and not sent yet.
    std::string text;
    // Its last response was made.
    bool answered = false;
  };

  KserveStreamReactor(ApiContext& api, grpc::CallbackServerContext& context);

  // Ends the call before anything of it is read.
  void Refuse(const absl::Status& status, grpc::CallbackServerContext& context);
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void Begin(const std::shared_ptr<Open>& open, const grpc::ByteBuffer& bytes);
  // Takes over a request that was submitted or refused.
  void Continue(Open& open, std::unique_ptr<LiveRequest> request, KserveReply reply);
  // Called by the engine thread: has Advance called by a thread of gRPC's.
  void OnReadable();
  void Advance();

  // What Advance is to do once the lock is released.
  struct Moves {
    bool read = false;
    bool write = false;
    bool finish = false;
    std::vector<std::pair<std::shared_ptr<Open>, LiveRequest::Cancels>> cancels;
  };
  Moves Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts the next response into message_, if there is one.
  bool NextMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The next response to one request, if there is one.
  static std::optional<inference::ModelStreamInferResponse> NextResponse(Open& open);

  ApiContext& api_;
  ArrivedCall call_;
  std::optional<ActiveCalls::StreamTicket> ticket_;
  // Keeps this alive for gRPC.
  std::shared_ptr<KserveStreamReactor> self_;
  // The messages in flight.
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer message_;
  // OnReadable was called, and Advance not yet in consequence.
  std::atomic<bool> bell_rung_{false};

  base::Mutex mutex_;
  // Who was written for longest ago comes first.
  std::list<std::shared_ptr<Open>> open_ ABSL_GUARDED_BY(mutex_);
  bool read_in_flight_ ABSL_GUARDED_BY(mutex_) = true;
  // The client sends no more requests.
  bool reads_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool write_in_flight_ ABSL_GUARDED_BY(mutex_) = false;
  // The client is gone: nothing more is written.
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // Finish was called. Nothing may follow.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sluice::api
