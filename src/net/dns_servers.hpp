#pragma once

#include <sys/types.h>

#include <boost/asio/ip/address.hpp>
#include <ctime>
#include <utility>
#include <vector>

#include "net/slot_address.hpp"

namespace noid::net {

// The resolvers that guests' queries are handed to: the configured ones, else those of the host's
// /etc/resolv.conf as it is at the time of the call.
class DnsServers {
  public:
    using Addresses = std::vector<boost::asio::ip::address>;

    explicit DnsServers(const std::vector<Ipv4>& configured);

    // Does not block but for a stat, and for reading the file when it has changed.
    [[nodiscard]] const Addresses& get();

  private:
    using Stamp = std::pair<ino_t, std::pair<time_t, long>>;  // of the file: inode, modification time

    bool is_fixed_;
    Addresses addresses_;
    Stamp stamp_{};
};

}  // namespace noid::net
