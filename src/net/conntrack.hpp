#pragma once

#include <cstdint>
#include <functional>

#include "base/error.hpp"
#include "net/netlink.hpp"
#include "net/policy.hpp"

// The kernel's table of connections, by ctnetlink. `netfilter` is a NETLINK_NETFILTER socket in the
// namespace meant. IPv4 only.
namespace noid::net {

// Forgets every connection.
[[nodiscard]] Result<void> forget_all_connections(NetlinkSocket& netfilter);
// Forgets the connections that `source` opened.
[[nodiscard]] Result<void> forget_connections_from(NetlinkSocket& netfilter, Ipv4 source);
// Forgets the connections that `source` opened and for which `is_denied` holds; what they carry next is
// looked at as if it were new.
[[nodiscard]] Result<void> forget_denied_connections(NetlinkSocket& netfilter, Ipv4 source,
                                                     const std::function<bool(const Flow&)>& is_denied);
// Those that may still carry something: a TCP connection that both sides have closed is none.
[[nodiscard]] Result<std::uint32_t> count_connections(NetlinkSocket& netfilter);

}  // namespace noid::net
