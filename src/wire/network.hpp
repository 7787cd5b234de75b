#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/json.hpp"

// A VM's network as the API shows it: what it may reach, which of its ports are published, what went through.
namespace noid::wire {

enum class Network : std::uint8_t { none, egress, open };
// "none" (or "isolated"), "egress", "open".
[[nodiscard]] std::optional<Network> parse_network(std::string_view text) noexcept;
[[nodiscard]] std::string_view name_of(Network network) noexcept;

// One line of an egress policy; the first that matches a connection decides.
struct NetworkRule {
    enum class Action : std::uint8_t { allow, deny } action = Action::allow;
    std::string to = "*";            // "10.0.0.0/8", "192.0.2.7", "example.com", "*.example.com", "*"
    std::string protocol = "any";    // "tcp", "udp", "icmp"
    std::vector<std::string> ports;  // "80", "8000-8100"; none: all

    // Types and words; what `to` and `ports` may be is noid-netd's to say.
    [[nodiscard]] static Result<NetworkRule> from_json(const json::value& value);
    bool operator==(const NetworkRule&) const = default;
};
[[nodiscard]] json::object to_json(const NetworkRule& rule);

// GET and PUT …/network. The mode says what happens to a connection that no rule matches.
struct NetworkPolicy {
    Network mode = Network::open;
    std::vector<NetworkRule> rules;
    std::uint64_t upload = 0;    // bytes per second from the guest; 0: not limited
    std::uint64_t download = 0;  // to the guest

    // Unknown members are errors: a misspelt rule must not open what it was to close.
    [[nodiscard]] static Result<NetworkPolicy> from_json(const json::value& value);
    bool operator==(const NetworkPolicy&) const = default;
};
[[nodiscard]] json::object to_json(const NetworkPolicy& policy);

// POST …/ports
struct ExposePort {
    std::uint16_t guest = 0;
    std::optional<std::uint16_t> host;  // none: one that is free
    bool is_public = false;             // "public": its name needs no token

    [[nodiscard]] static Result<ExposePort> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const ExposePort& request);

// One published port: the answer to that, and an element of GET …/ports.
struct ExposedPort {
    std::uint16_t guest = 0;
    std::uint16_t host = 0;
    std::optional<std::string> url;  // by name, where the server has a domain
    bool is_public = false;
    std::optional<std::string> obstacle;  // why nobody listens at the host's port now; none: the server does

    [[nodiscard]] static Result<ExposedPort> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const ExposedPort& port);

// What went through since the VM got its network: "traffic" in a VM's description.
struct NetworkTraffic {
    std::uint64_t sent_bytes = 0;  // by the guest
    std::uint64_t sent_packets = 0;
    std::uint64_t received_bytes = 0;
    std::uint64_t received_packets = 0;
    std::uint64_t dropped_packets = 0;  // forged, or towards what no guest may reach
    std::uint64_t denied_packets = 0;   // refused by the policy
    std::uint32_t connections = 0;      // now

    [[nodiscard]] static Result<NetworkTraffic> from_json(const json::value& value);
};
[[nodiscard]] json::object to_json(const NetworkTraffic& traffic);

}  // namespace noid::wire
