#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/async.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "net/protocol.hpp"

namespace noid::netclient {

// What noid-netd tells of sleeping VMs, for as long as it lives.
class Watch {
  public:
    Watch(asio::local::stream_protocol::socket socket, std::string read_ahead, std::vector<std::string> lost)
        : socket_{std::move(socket)}, read_ahead_{std::move(read_ahead)}, lost_{std::move(lost)} {}

    // Of the VMs that were said to sleep, those that have no slot.
    [[nodiscard]] const std::vector<std::string>& lost() const noexcept { return lost_; }
    // The next VM that somebody sends to. unavailable: the daemon has ended, or watches for another process
    // of this server now.
    Awaitable<Result<std::string>> next();

  private:
    asio::local::stream_protocol::socket socket_;
    std::string read_ahead_;
    std::vector<std::string> lost_;
};

// Asks noid-netd. Every question has a connection of its own, so calls do not wait for each other, and a
// daemon that is restarted is found again. Thread-safe; runs on the caller's executor.
//
// Errors: unavailable when no daemon answers, forbidden when this user may not ask, timed_out after
// `limit`, and whatever the daemon itself says. A cancelled or timed-out request may have been carried
// out: asking again is safe, since every operation finds what is already as it should be.
class Client {
  public:
    static constexpr std::chrono::seconds default_limit{15};

    // Opens a connection in place of this process: one that another has the right to.
    using Connect = std::function<Awaitable<Result<Fd>>()>;

    explicit Client(std::filesystem::path socket, std::chrono::milliseconds limit = default_limit,
                    Connect connect = {})
        : socket_{std::move(socket)}, limit_{limit}, connect_{std::move(connect)} {}

    Awaitable<Result<net::SlotDescription>> acquire(const net::AcquireRequest& request) const;
    // False: the VM had no slot.
    Awaitable<Result<bool>> release(std::string vm) const;
    Awaitable<Result<net::Policy>> policy(std::string vm) const;
    Awaitable<Result<net::Policy>> set_policy(std::string vm, net::Policy policy) const;
    // Of one VM, or of all that this user has.
    Awaitable<Result<std::vector<net::VmStats>>> stats(std::optional<std::string> vm = {}) const;
    // The VMs that lost their slots.
    Awaitable<Result<std::vector<std::string>>> retain(const net::RetainRequest& request) const;
    Awaitable<Result<void>> sleep(std::string vm) const;
    Awaitable<Result<void>> awake(std::string vm) const;
    Awaitable<Result<std::shared_ptr<Watch>>> watch(const net::WatchRequest& request) const;
    Awaitable<Result<std::vector<net::Finding>>> doctor() const;

    [[nodiscard]] const std::filesystem::path& socket() const noexcept { return socket_; }

  private:
    Awaitable<Result<std::string>> ask(std::string line) const;
    Awaitable<Result<std::shared_ptr<Watch>>> begin_watch(std::string line) const;

    std::filesystem::path socket_;
    std::chrono::milliseconds limit_;
    Connect connect_;
};

}  // namespace noid::netclient
