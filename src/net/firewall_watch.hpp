#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/async.hpp"
#include "base/error.hpp"

namespace noid::net {

// Hears when something is removed from nftables in the host's namespace, by whichever program: firewalls that
// are reloaded take rules along that are not theirs. iptables speaks to nftables too, unless it is its older
// kind, of which the kernel tells nothing.
class FirewallWatch {
  public:
    // For the namespace of the calling thread.
    [[nodiscard]] static Result<FirewallWatch> open(asio::any_io_executor executor);

    // Returns when something has been removed since the last call, by us too. cancelled: the watch is over.
    Awaitable<Result<void>> removed();

  private:
    explicit FirewallWatch(asio::posix::stream_descriptor socket) : socket_{std::move(socket)} {}

    asio::posix::stream_descriptor socket_;
};

}  // namespace noid::net
