// What gRPC and protobuf write to standard error by themselves.
#pragma once

namespace sluice::api {

// Has it written to the server's log instead, at level debug: it is about what peers sent or did,
// and whoever needs to know is told by a status. For the whole process; to be called before gRPC is
// used, from one thread.
void RedirectLibraryLogs();

}  // namespace sluice::api
