#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <memory>
#include <string>

#include "api/exchange.hpp"

namespace noid::api {

// The server's end of a WebSocket, with what its connection asks of it besides. On its socket's strand.
class ServerWebSocket : public WebSocket {
  public:
    // Answers a handshake, which was checked before, with 101. `key` is its Sec-WebSocket-Key.
    [[nodiscard]] static Awaitable<Result<std::shared_ptr<ServerWebSocket>>> accept(
        asio::generic::stream_protocol::socket socket, std::string key);

    // Closes with 1001: the server stops. The reader then gets `closed`.
    virtual void go_away() = 0;
    // Tells the client why in an error message and closes with 1008. The reader then gets `closed`.
    virtual void end(const Error& why) = 0;
    virtual void abort() = 0;
};

}  // namespace noid::api
