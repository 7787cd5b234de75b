#pragma once

#include "api/call.hpp"
#include "api/message.hpp"
#include "proto/messages.hpp"

namespace noid::api {

// Opens a session for the call's VM and joins it with the call's WebSocket. A client that loses its
// connection comes back to it by an attach, within `hold_ms` of the query. Defined in stream_endpoints.cpp.
[[nodiscard]] Awaitable<Result<Response>> session_stream(Call& call, proto::Operation operation);

}  // namespace noid::api
