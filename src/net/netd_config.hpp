#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "net/slot_address.hpp"

namespace noid::net {

// Everything that netd.toml can set. docs/network.md lists the keys.
struct NetdConfig {
    std::filesystem::path socket = "/run/noid/netd.sock";
    std::string group = "noid";                          // may use the socket, besides root
    std::filesystem::path state_dir = "/run/noid/netd";  // leases, and what cleanup has to undo
    std::filesystem::path netns_dir = "/run/netns";      // where `ip netns` has them
    Ipv4Network pool = *parse_ipv4_network("172.16.0.0/16");
    std::string uplink;                    // empty: the default route's device, followed
    std::vector<Ipv4> dns;                 // empty: those in /etc/resolv.conf
    std::uint32_t mtu = 0;                 // 0: the uplink's, at most 1500
    std::uint32_t ready = 8;               // slots made ahead
    std::uint32_t max_connections = 8192;  // tracked at once, per VM
    bool set_ip_forward = true;
    // Never reachable from any guest, besides what isolation closes anyway.
    std::vector<Ipv4Network> blocked = {*parse_ipv4_network("100.100.100.200"),  // metadata services that
                                        *parse_ipv4_network("168.63.129.16")};   // are not link-local
};

// `file` must exist. The error names file and line; keys that are not known are errors.
[[nodiscard]] Result<NetdConfig> load_netd_config(const std::filesystem::path& file);
// --config, else /etc/noid/netd.toml when that exists, else the defaults.
[[nodiscard]] Result<NetdConfig> find_netd_config(const std::optional<std::filesystem::path>& file);

}  // namespace noid::net
