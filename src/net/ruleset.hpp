#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "net/policy.hpp"
#include "net/slot_address.hpp"

// The nftables rules, as text that libnftables loads in one transaction. Each text replaces the tables
// that it names as a whole; no other table is ever touched. Pure functions.
namespace noid::net {

inline constexpr const char* table_name = "noid";           // in the host (inet) and in slots (ip, netdev)
inline constexpr const char* policy_table = "noid_policy";  // in slots (ip)
inline constexpr std::size_t max_learned = 4096;            // addresses per rule with a name

// What the host sends towards a guest is logged there (NFLOG), about one packet a second and no byte of it:
// nobody listens unless the guest is asleep.
inline constexpr std::uint16_t knock_group = 1;

// Counters in a slot's tables, read for VmStats.
namespace counter {
inline constexpr const char* forged = "forged";  // netdev
inline constexpr const char* sent = "sent";      // ip, and all below
inline constexpr const char* received = "received";
inline constexpr const char* isolated = "isolated";
inline constexpr const char* denied = "denied";
}  // namespace counter

// What a ruleset finds in its namespace. To replace nothing costs libnftables as much as to make a table.
enum class Before { nothing, earlier_rules };

// What holds in a slot whatever its VM's policy: one source address and MAC, one NAT rule each way, no
// way to the host, to other slots or to what is blocked; its counters start at zero.
struct SlotRules {
    SlotAddresses addresses;
    Mac guest_mac = inner::guest_mac;
    std::vector<Ipv4Network> blocked;
    std::uint32_t max_connections = 8192;
};
[[nodiscard]] std::string slot_ruleset(const SlotRules& rules, Before before = Before::earlier_rules);

struct LearnedAddress {
    Ipv4 address;
    std::chrono::seconds remaining{};
    bool operator==(const LearnedAddress&) const = default;
};
// The addresses that names under the pattern have resolved to for this guest.
using LearnedOf = std::function<std::vector<LearnedAddress>(const NamePattern&)>;
[[nodiscard]] std::string policy_ruleset(const Policy& policy, const LearnedOf& learned,
                                         Before before = Before::earlier_rules);
// The set of learned addresses that belongs to a rule with a name.
[[nodiscard]] std::string learned_set_name(std::size_t rule);

// What holds for all slots and bare TAPs in the host's own namespace, besides the few rules that
// iptables shows (host_rules.hpp).
struct HostRuleset {
    Ipv4Network pool;
    std::vector<Ipv4Network> blocked;
    std::string uplink;  // empty: there is none now, nothing is forwarded
};
[[nodiscard]] std::string host_ruleset(const HostRuleset& rules);
[[nodiscard]] std::string remove_host_ruleset();

// Networks no guest may reach through any uplink: `pool`, `more`, and what the internet does not route.
[[nodiscard]] std::vector<Ipv4Network> blocked_networks(const Ipv4Network& pool,
                                                        const std::vector<Ipv4Network>& more);

}  // namespace noid::net
