#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "config/server_config.hpp"
#include "vm/engine.hpp"

namespace noid::api {

// Sockets that are bound already; an empty one is bound by ApiServer::create().
struct BoundPorts {
    Fd main;
    Fd metrics;
};
// Binds those of the configured ports that take a privilege to bind, for a process that is about to give it
// up.
[[nodiscard]] Result<BoundPorts> bind_privileged_ports(const config::ServerConfig& config);

// The HTTP and WebSocket API in front of an engine, and the administration API on the Unix socket
// <data_dir>/admin.sock. Thread-safe; works on as many threads as run the loop.
class ApiServer {
  public:
    ApiServer() = default;
    ApiServer(const ApiServer&) = delete;
    ApiServer& operator=(const ApiServer&) = delete;
    // After stop() only.
    virtual ~ApiServer() = default;

    // Binds and listens: the error names the address. `engine` and `config` must outlive the server.
    // Clients are answered once start() has begun.
    [[nodiscard]] static Result<std::unique_ptr<ApiServer>> create(asio::io_context& loop, vm::Engine& engine,
                                                                   const config::ServerConfig& config,
                                                                   BoundPorts ports = {});

    // Returns when clients are answered and the ports of VMs are published.
    virtual Awaitable<void> start() = 0;
    // Accepts nobody any more, ends streams cleanly (guest sessions of resumable clients go on), lets
    // requests finish until `deadline`, then cancels them. Returns when no connection is left.
    virtual Awaitable<void> stop(std::chrono::milliseconds deadline) = 0;

    // Where the main listener is; of use when the configuration asked for port 0.
    [[nodiscard]] virtual std::string address() const = 0;
    [[nodiscard]] virtual std::uint16_t port() const = 0;
};

}  // namespace noid::api
