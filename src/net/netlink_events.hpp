#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::net {

// A socket that hears what the kernel announces to `groups` (a mask) in the calling thread's network
// namespace; not blocking. `what`: for the error, "the routes".
[[nodiscard]] Result<Fd> open_netlink_events(int family, std::uint32_t groups, std::string_view what);
// Reads all that has been announced; true if some of it is relevant, or if something was lost.
[[nodiscard]] bool drain_netlink_events(int socket, const std::function<bool(const nlmsghdr&)>& is_relevant);

}  // namespace noid::net
