#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>

#include "base/async.hpp"
#include "base/error.hpp"
#include "cli/remote_session.hpp"

namespace noid::cli {

// One local TCP connection joined with one to a port of a VM. Lives on the loop's thread.
class TcpTunnel {
  public:
    TcpTunnel(asio::ip::tcp::socket local, RemoteSession::Options options, std::uint16_t port);

    // Carries each direction until its own end, over as many connections to the server as it takes.
    // The error says why the port was not reached, or what broke. May not be cancelled; stop() ends it.
    Awaitable<Result<void>> run();
    void stop() { remote_.abandon(); }

  private:
    Awaitable<void> to_guest();
    Awaitable<void> from_guest();

    asio::ip::tcp::socket local_;
    RemoteSession remote_;
    std::uint16_t port_;
};

}  // namespace noid::cli
