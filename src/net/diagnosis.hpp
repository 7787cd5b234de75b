#pragma once

#include <optional>
#include <string>
#include <vector>

#include "net/dns_servers.hpp"
#include "net/netd_config.hpp"
#include "net/netlink.hpp"
#include "net/protocol.hpp"
#include "net/slot_pool.hpp"
#include "net/uplink.hpp"

// What `noid-netd doctor` looks at. Nothing is changed; all blocks.
namespace noid::net {

// What can be told without a daemon. `route`, `netfilter`: the host's.
[[nodiscard]] std::vector<Finding> diagnose_host(const NetdConfig& config, NetlinkSocket& route,
                                                 NetlinkSocket& netfilter);
// What the daemon has put into the host, and how many slots there are.
[[nodiscard]] std::vector<Finding> diagnose_daemon(const HostRuleset& rules, const SlotPool::Counts& counts,
                                                   NetlinkSocket& netfilter);

}  // namespace noid::net
