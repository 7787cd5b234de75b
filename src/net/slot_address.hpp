#pragma once

#include <array>
#include <boost/asio/ip/address_v4.hpp>
#include <boost/asio/ip/network_v4.hpp>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

// Names and addresses of slots: pure arithmetic, the same in daemon, client and tests.
namespace noid::net {

using Ipv4 = boost::asio::ip::address_v4;
using Ipv4Network = boost::asio::ip::network_v4;

// "10.0.0.0/8", or a single address, which is a /32. Host bits must be zero.
[[nodiscard]] std::optional<Ipv4Network> parse_ipv4_network(std::string_view text);
// True when some address is in both.
[[nodiscard]] bool overlap(const Ipv4Network& a, const Ipv4Network& b);

struct Mac {
    std::array<std::uint8_t, 6> bytes{};
    auto operator<=>(const Mac&) const = default;
};
// "AA:FC:00:00:00:02", upper case.
[[nodiscard]] std::string to_string(const Mac& mac);
// Either case. nullopt too for group addresses and for 00:00:00:00:00:00, which no machine may have.
[[nodiscard]] std::optional<Mac> parse_mac(std::string_view text);

// What every guest sees, in whichever slot it wakes: a snapshot keeps these in its memory (address,
// route, neighbour table), so they never change. They are outside of the default pool.
namespace inner {
inline constexpr const char* tap = "tap0";            // in the slot's namespace
inline constexpr const char* uplink = "uplink";       // the other device there, towards the host
inline constexpr const char* gateway = "10.200.0.1";  // the slot's end of the TAP, and the guest's resolver
inline constexpr const char* guest = "10.200.0.2";
inline constexpr const char* network = "10.200.0.0/30";
inline constexpr unsigned prefix_length = 30;
inline constexpr Mac gateway_mac{{0xAA, 0xFC, 0x00, 0x00, 0x00, 0x01}};
inline constexpr Mac guest_mac{{0xAA, 0xFC, 0x00, 0x00, 0x00, 0x02}};
}  // namespace inner

inline constexpr std::uint32_t max_slots = 16384;
inline constexpr std::string_view device_prefix = "noid";  // such devices in the host are netd's own

// How the host and other guests' traffic sees one slot.
struct SlotAddresses {
    std::uint32_t index = 0;
    std::string name;  // "noid3": the host's device and the namespace
    Ipv4 host;         // the host's end
    Ipv4 guest;        // the guest, as seen from outside of its namespace
    Mac plain_mac;     // of a guest at a bare TAP (`setup`)
};

// "noid3" → 3. nullopt for every name that no slot can have ("noid03", "noid16384", "noid3x").
[[nodiscard]] std::optional<std::uint32_t> parse_slot_name(std::string_view name);

// The addresses out of which slots get theirs: four for each index.
class AddressPool {
  public:
    // From /16 (16384 slots) to /30 (one).
    [[nodiscard]] static Result<AddressPool> create(const Ipv4Network& network);

    [[nodiscard]] const Ipv4Network& network() const noexcept { return network_; }
    [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
    // index < max_slots; only below size() are the addresses the pool's.
    [[nodiscard]] SlotAddresses at(std::uint32_t index) const;

  private:
    AddressPool(const Ipv4Network& network, std::uint32_t size) : network_{network}, size_{size} {}

    Ipv4Network network_;
    std::uint32_t size_;
};

}  // namespace noid::net
