#pragma once

#include <string_view>

#include "base/error.hpp"
#include "wire/network.hpp"

namespace noid::cli {

// "[PROTOCOL:]TO[:PORTS]", what --allow and --deny take: "10.0.0.0/8", "*.debian.org:80,443",
// "udp:192.0.2.53:53", "icmp:*". `invalid` when it is none; whether there is such a network or name is the
// server's to say. The action is left as it is by default.
[[nodiscard]] Result<wire::NetworkRule> parse_network_rule(std::string_view text);

}  // namespace noid::cli
