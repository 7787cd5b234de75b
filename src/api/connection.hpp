#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <memory>
#include <string>

#include "api/router.hpp"
#include "base/async.hpp"

namespace noid::api {

// Where a client is.
struct Peer {
    std::string address;  // failures are counted for it; "unix" on a Unix socket
    std::string text;     // with its port, for the log
};

enum class Listening : std::uint8_t { main, metrics, admin };

// One client's connection: requests one after the other, or one WebSocket. Lives on its socket's
// executor, a strand.
class Connection {
  public:
    Connection() = default;
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    virtual ~Connection() = default;

    // `services` and `router` must outlive run().
    [[nodiscard]] static std::shared_ptr<Connection> create(asio::generic::stream_protocol::socket socket,
                                                            Peer peer, Listening listening,
                                                            Services& services, const Router& router);

    // Serves the connection to its end. Once.
    virtual Awaitable<void> run() = 0;

    // Asks for a clean end: an idle connection closes, a WebSocket says goodbye, a request is
    // answered before. From any thread.
    virtual void stop() = 0;
    // Ends it now: what runs for it is cancelled. From any thread.
    virtual void abort() = 0;
};

}  // namespace noid::api
