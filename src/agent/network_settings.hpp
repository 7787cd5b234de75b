#pragma once

#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "proto/messages.hpp"

namespace noid::agent {

// A GuestNetwork, validated and in the kernel's terms.
struct NetworkSettings {
    std::optional<std::array<std::uint8_t, 6>> mac;  // nothing: leave
    in_addr address{};
    std::uint8_t prefix_length = 0;
    std::optional<in_addr> gateway;  // nothing: no default route
    std::uint32_t mtu = 1500;
    std::string resolver_file;  // contents of /etc/resolv.conf; empty: leave
};

// `invalid` names the field that is wrong.
[[nodiscard]] Result<NetworkSettings> parse_network(const proto::GuestNetwork& network);

}  // namespace noid::agent
