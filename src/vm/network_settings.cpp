#include "vm/network_settings.hpp"

#include <fmt/format.h>

#include <boost/json/value.hpp>
#include <set>

namespace noid::vm {

std::optional<NetworkMode> parse_network_mode(std::string_view text) noexcept {
    for (const NetworkMode mode : {NetworkMode::none, NetworkMode::egress, NetworkMode::open}) {
        if (name_of(mode) == text) return mode;
    }
    return std::nullopt;
}

Result<void> check(const NetworkSettings& settings) {
    auto read = NetworkSettings::from_json(settings.to_json());
    if (!read) return fail(std::move(read.error()));
    return {};
}

boost::json::value network_settings_to_file(const NetworkSettings& settings) {
    NetworkSettings plain;
    plain.mode = settings.mode;
    if (settings == plain) return boost::json::value(name_of(settings.mode));
    return settings.to_json();
}

Result<NetworkSettings> network_settings_from_file(const boost::json::value& value) {
    if (const auto* text = value.if_string()) {
        const auto mode = parse_network_mode(*text);
        if (!mode) return fail(Errc::corrupt, "unknown network mode");
        NetworkSettings settings;
        settings.mode = *mode;
        return settings;
    }
    auto settings = NetworkSettings::from_json(value);
    if (!settings) return fail(Errc::corrupt, "network settings: " + settings.error().what);
    return settings;
}

Result<void> check(const std::vector<PublishedPort>& ports) {
    if (ports.size() > max_published_ports) {
        return fail(Errc::limit_exceeded, fmt::format("{} ports to publish, at most {} are allowed",
                                                      ports.size(), max_published_ports));
    }
    std::set<std::uint16_t> of_guest;
    std::set<std::uint16_t> of_host;
    for (const PublishedPort& port : ports) {
        if (port.guest == 0 || port.host == 0)
            return fail(Errc::invalid, "a published port is from 1 to 65535");
        if (!of_guest.insert(port.guest).second)
            return fail(Errc::invalid, fmt::format("port {} of the guest is published twice", port.guest));
        if (!of_host.insert(port.host).second)
            return fail(Errc::invalid, fmt::format("port {} of the host is named twice", port.host));
    }
    return {};
}

NetworkNumbers& NetworkNumbers::operator+=(const NetworkNumbers& other) {
    const auto add = [](net::Traffic& total, const net::Traffic& more) {
        total.bytes += more.bytes;
        total.packets += more.packets;
    };
    add(sent, other.sent);
    add(received, other.received);
    add(forged, other.forged);
    add(isolated, other.isolated);
    add(denied, other.denied);
    connections += other.connections;
    return *this;
}

}  // namespace noid::vm
