#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "net/netlink.hpp"
#include "net/ruleset.hpp"

namespace noid::net {

// Runs commands of the nft language in the calling thread's namespace, all or none of them, through
// libnftables; no program is started. One thread at a time. The error has nft's own words.
[[nodiscard]] Result<void> run_nft(const std::string& commands);
// Gives what nft would print.
[[nodiscard]] Result<std::string> ask_nft(const std::string& commands);

// The following speak netlink themselves, because they run often. `netfilter` is a NETLINK_NETFILTER
// socket in the namespace meant.

struct CounterValue {
    std::uint64_t bytes = 0;
    std::uint64_t packets = 0;
};
// The named counters of a table, by name. `family`: NFPROTO_IPV4, NFPROTO_NETDEV.
[[nodiscard]] Result<std::map<std::string, CounterValue>> read_counters(NetlinkSocket& netfilter, int family,
                                                                        const std::string& table);

// Puts addresses into a set of IPv4 addresses with timeouts; those that are there already live on for
// the new time.
[[nodiscard]] Result<void> add_to_set(NetlinkSocket& netfilter, const std::string& table,
                                      const std::string& set, const std::vector<LearnedAddress>& addresses);
[[nodiscard]] Result<std::vector<LearnedAddress>> list_set(NetlinkSocket& netfilter, const std::string& table,
                                                           const std::string& set);

// Grows by one with every change to nftables in the socket's namespace.
[[nodiscard]] Result<std::uint32_t> ruleset_generation(NetlinkSocket& netfilter);
[[nodiscard]] Result<bool> has_table(NetlinkSocket& netfilter, int family, const std::string& table);
// Removes the table with these chains, but only if there is no rule and nothing else in it; true if it
// is gone. The kernel checks this, so nothing that somebody adds at the same time is lost.
[[nodiscard]] Result<bool> remove_unused_table(NetlinkSocket& netfilter, int family,
                                               const std::string& table);

}  // namespace noid::net
