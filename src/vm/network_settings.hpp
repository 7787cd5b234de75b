#pragma once

#include <boost/json/fwd.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "net/policy.hpp"
#include "net/traffic.hpp"

// What a VM's user says about its network, and what is counted there.
namespace noid::vm {

// What a VM may reach of the internet, and how fast: mode, rules, bytes per second each way. The same
// value, in the same words, as noid-netd's policy, so that nothing is lost between the two.
using NetworkMode = net::Mode;
using NetworkSettings = net::Policy;
using net::name_of;
[[nodiscard]] std::optional<NetworkMode> parse_network_mode(std::string_view text) noexcept;

// `invalid` or `too_large`, as NetworkSettings::from_json says it.
[[nodiscard]] Result<void> check(const NetworkSettings& settings);

// As our files have them: the mode alone where it says everything, else as NetworkSettings::to_json.
// Reading: `corrupt` when it is neither.
[[nodiscard]] boost::json::value network_settings_to_file(const NetworkSettings& settings);
[[nodiscard]] Result<NetworkSettings> network_settings_from_file(const boost::json::value& value);

// A port of the host that leads to a port of the guest.
struct PublishedPort {
    std::uint16_t guest = 0;
    std::uint16_t host = 0;      // of the server's host; one VM of the server has it
    bool public_access = false;  // over HTTP: without a token
    bool operator==(const PublishedPort&) const = default;
};
inline constexpr std::size_t max_published_ports = 64;  // of one VM

// `invalid`: a port is 0 or is named twice; `limit_exceeded`: too many.
[[nodiscard]] Result<void> check(const std::vector<PublishedPort>& ports);

// Since the VM got its place on the network: when it was made, started or woken.
struct NetworkNumbers {
    net::Traffic sent;  // by the guest
    net::Traffic received;
    net::Traffic forged;            // dropped: not the guest's own address, or no IPv4
    net::Traffic isolated;          // dropped: towards what no guest may reach
    net::Traffic denied;            // refused by the settings
    std::uint32_t connections = 0;  // that are open now, either way

    NetworkNumbers& operator+=(const NetworkNumbers& other);
};

}  // namespace noid::vm
