#include "net/slot_address.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace noid::net {

std::optional<Ipv4Network> parse_ipv4_network(std::string_view text) {
    const bool is_single = text.find('/') == std::string_view::npos;
    boost::system::error_code error;
    const auto network =
        boost::asio::ip::make_network_v4(is_single ? std::string{text} + "/32" : std::string{text}, error);
    if (error || network.canonical() != network) return std::nullopt;
    return network;
}

bool overlap(const Ipv4Network& a, const Ipv4Network& b) {
    const auto shorter = std::min(a.prefix_length(), b.prefix_length());
    return Ipv4Network{a.address(), shorter}.canonical() == Ipv4Network{b.address(), shorter}.canonical();
}

std::string to_string(const Mac& mac) {
    const auto& b = mac.bytes;
    return fmt::format("{:02X}:{:02X}:{:02X}:{:02X}:{:02X}:{:02X}", b[0], b[1], b[2], b[3], b[4], b[5]);
}

std::optional<Mac> parse_mac(std::string_view text) {
    constexpr std::size_t spelt = 17;
    if (text.size() != spelt) return std::nullopt;
    Mac mac;
    for (std::size_t i = 0; i < mac.bytes.size(); ++i) {
        const char* const start = text.data() + 3 * i;
        const auto [end, error] = std::from_chars(start, start + 2, mac.bytes[i], 16);
        if (error != std::errc{} || end != start + 2 || (i > 0 && start[-1] != ':')) return std::nullopt;
    }
    constexpr std::uint8_t group_bit = 1;
    if ((mac.bytes[0] & group_bit) != 0 || mac == Mac{}) return std::nullopt;
    return mac;
}

std::optional<std::uint32_t> parse_slot_name(std::string_view name) {
    if (!name.starts_with(device_prefix)) return std::nullopt;
    const auto digits = name.substr(device_prefix.size());
    std::uint32_t index = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    const bool is_number = error == std::errc{} && end == digits.data() + digits.size();
    const bool is_canonical = !digits.empty() && (digits.size() == 1 || digits.front() != '0');
    if (!is_number || !is_canonical || index >= max_slots) return std::nullopt;
    return index;
}

Result<AddressPool> AddressPool::create(const Ipv4Network& network) {
    constexpr unsigned longest = 30;
    if (network.prefix_length() < 16 || network.prefix_length() > longest)
        return fail(Errc::invalid, "the address pool must be from a /16 to a /30");
    if (overlap(network, *parse_ipv4_network(inner::network)))
        return fail(Errc::invalid, fmt::format("the address pool must not contain {}, which every guest sees",
                                               inner::network));
    return AddressPool{network, 1U << (longest - network.prefix_length())};
}

SlotAddresses AddressPool::at(std::uint32_t index) const {
    const std::uint32_t base = network_.address().to_uint() + 4 * index;
    SlotAddresses addresses;
    addresses.index = index;
    addresses.name = fmt::format("{}{}", device_prefix, index);
    addresses.host = Ipv4{base + 1};
    addresses.guest = Ipv4{base + 2};
    addresses.plain_mac = Mac{{0xAA, 0xFC, 0x00, 0x00, static_cast<std::uint8_t>(index >> 8),
                               static_cast<std::uint8_t>(index & 255)}};
    return addresses;
}

}  // namespace noid::net
