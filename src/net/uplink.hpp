#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "base/async.hpp"
#include "base/error.hpp"
#include "net/netlink.hpp"

namespace noid::net {

// The device through which guests reach the internet.
struct Uplink {
    int number = 0;
    std::string name;
    std::uint32_t mtu = 1500;
    bool operator==(const Uplink&) const = default;
};

// The device called `configured`, or the default route's if that is empty. Nothing while there is none.
// Devices whose names have characters that no sane name has are none.
[[nodiscard]] Result<std::optional<Uplink>> find_uplink(NetlinkSocket& route, const std::string& configured);

// Hears of what can change the uplink: default routes, and the device itself.
class UplinkWatch {
  public:
    [[nodiscard]] static Result<UplinkWatch> open(asio::any_io_executor executor);

    // Returns when find_uplink() may have a new answer; `current` is its last one. Changes between two
    // calls are not lost.
    Awaitable<Result<void>> changed(std::optional<Uplink> current);

  private:
    explicit UplinkWatch(asio::posix::stream_descriptor socket) : socket_{std::move(socket)} {}

    asio::posix::stream_descriptor socket_;
};

}  // namespace noid::net
