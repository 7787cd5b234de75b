#include "agent/network_settings.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <string_view>
#include <system_error>

namespace noid::agent {

namespace {

constexpr std::size_t max_nameservers = 3;  // as many as resolvers look at
constexpr std::uint32_t min_mtu = 576;
constexpr std::uint32_t max_mtu = 65535;

template <class Number>
std::optional<Number> parse_number(std::string_view text, int base) {
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return number;
}

std::optional<std::array<std::uint8_t, 6>> parse_mac(std::string_view text) {
    constexpr std::size_t spelt = 17;  // "AA:FC:00:00:00:01"
    if (text.size() != spelt) return std::nullopt;
    std::array<std::uint8_t, 6> mac{};
    for (std::size_t i = 0; i < mac.size(); ++i) {
        const auto byte = parse_number<std::uint8_t>(text.substr(3 * i, 2), 16);
        if (!byte || (i > 0 && text[3 * i - 1] != ':')) return std::nullopt;
        mac[i] = *byte;
    }
    constexpr std::uint8_t group_bit = 1;
    const bool is_zero = mac == std::array<std::uint8_t, 6>{};
    if ((mac[0] & group_bit) != 0 || is_zero) return std::nullopt;
    return mac;
}

std::optional<in_addr> parse_ipv4(const std::string& text) {
    in_addr address{};
    if (::inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
    return address;
}

bool is_ip_address(const std::string& text) {
    in6_addr address{};
    return parse_ipv4(text) || ::inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

std::unexpected<Error> invalid(std::string_view field, std::string_view value) {
    return fail(Errc::invalid, fmt::format("network {} '{:.64}' is none", field, value));
}

}  // namespace

Result<NetworkSettings> parse_network(const proto::GuestNetwork& network) {
    NetworkSettings settings;
    if (!network.mac.empty()) {
        settings.mac = parse_mac(network.mac);
        if (!settings.mac) return invalid("mac", network.mac);
    }

    const auto slash = network.address.find('/');
    const auto address = parse_ipv4(network.address.substr(0, slash));
    const std::string_view prefix_text =
        slash == std::string::npos ? "" : std::string_view{network.address}.substr(slash + 1);
    const auto prefix_length = parse_number<std::uint8_t>(prefix_text, 10).value_or(0);
    if (!address || prefix_length == 0 || prefix_length > 32) return invalid("address", network.address);
    settings.address = *address;
    settings.prefix_length = prefix_length;

    if (!network.gateway.empty()) {
        settings.gateway = parse_ipv4(network.gateway);
        if (!settings.gateway) return invalid("gateway", network.gateway);
    }
    if (network.mtu < min_mtu || network.mtu > max_mtu) return invalid("mtu", std::to_string(network.mtu));
    settings.mtu = network.mtu;

    if (network.nameservers.size() > max_nameservers)
        return fail(Errc::invalid, "network nameservers: too many");
    for (const auto& server : network.nameservers) {
        if (!is_ip_address(server)) return invalid("nameserver", server);
        settings.resolver_file += "nameserver " + server + "\n";
    }
    return settings;
}

}  // namespace noid::agent
