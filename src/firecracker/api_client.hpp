#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "firecracker/requests.hpp"

namespace noid::firecracker {

// Firecracker's API: HTTP on a Unix socket in the VM's directory. Every call has a connection of its
// own, so a cancelled or late one leaves nothing behind for the next.
class ApiClient {
  public:
    // `directory` is open for as long as the client is used.
    explicit ApiClient(const Fd& directory) noexcept : directory_{&directory} {}

    // Sends the request and gives the body of the answer (empty for most). internal, with Firecracker's
    // own words, when it refuses; corrupt when it answers something that is not its API or exceeds
    // 64 KiB; timed_out; unavailable or not_found when nobody listens.
    // Cancelled: Firecracker may have carried it out or not.
    Awaitable<Result<std::string>> send(Request request, std::chrono::milliseconds deadline) const;

    enum class State : std::uint8_t { not_started, running, paused };
    Awaitable<Result<State>> state() const;

  private:
    const Fd* directory_;
};

}  // namespace noid::firecracker
