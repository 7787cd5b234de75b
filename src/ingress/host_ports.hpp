#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "config/server_config.hpp"
#include "ingress/visits.hpp"
#include "vm/port_registry.hpp"

namespace noid::ingress {

// The published ports of the host: listens on each and leads every connection into its guest, which
// wakes for it if it is suspended. Follows the engine's registry, so that what it publishes comes back
// after a restart and goes with its VM. Thread-safe. Its coroutines share it.
class HostPorts {
  public:
    HostPorts() = default;
    HostPorts(const HostPorts&) = delete;
    HostPorts& operator=(const HostPorts&) = delete;
    // After stop() only.
    virtual ~HostPorts() = default;

    // invalid when `config.address` is no IP address. `registry` and `visits` must outlive this.
    [[nodiscard]] static Result<std::shared_ptr<HostPorts>> create(
        asio::io_context& loop, const config::ServerConfig::Ingress& config, vm::PortRegistry& registry,
        Visits& visits);

    // Returns when it listens at every port that the registry has.
    virtual Awaitable<void> start() = 0;
    // Returns when all that the registry was told before has been done.
    virtual Awaitable<void> caught_up() = 0;
    // Listens no more, ends all connections.
    virtual Awaitable<void> stop() = 0;

    // A port of the host, bound but not yet anybody's. Given back unless the registry has it by then.
    class Reservation {
      public:
        Reservation() = default;
        Reservation(const Reservation&) = delete;
        Reservation& operator=(const Reservation&) = delete;
        virtual ~Reservation() = default;
        [[nodiscard]] virtual std::uint16_t host() const noexcept = 0;
    };
    // That port, or any that is free. conflict: it is in use; invalid: outside of [ingress] ports;
    // limit_exceeded: none is free.
    virtual Awaitable<Result<std::unique_ptr<Reservation>>> reserve(std::optional<std::uint16_t> host) = 0;

    // Publishes one more port of the VM, or says whether it is public; a guest's port has one of the
    // host. Errors as reserve() and vm::Vm::set_published_ports().
    virtual Awaitable<Result<vm::PublishedPort>> publish(std::shared_ptr<vm::Vm> vm, std::uint16_t guest,
                                                         std::optional<std::uint16_t> host,
                                                         bool public_access) = 0;
    // not_found when it is not published.
    virtual Awaitable<Result<void>> withdraw(std::shared_ptr<vm::Vm> vm, std::uint16_t guest) = 0;

    // Why nobody listens at a port of the host that is published: another program has it, say. It is tried
    // again, at the latest after 30 s. No I/O.
    [[nodiscard]] virtual std::optional<std::string> obstacle(std::uint16_t host) const = 0;
};

}  // namespace noid::ingress
