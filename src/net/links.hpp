#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"
#include "net/netlink.hpp"
#include "net/slot_address.hpp"

// Devices, addresses, routes and queues by rtnetlink. The *_request functions make messages for
// NetlinkSocket::send_all; device numbers are those of the socket's namespace.
namespace noid::net {

struct Device {
    int number = 0;
    std::string name;
    std::string alias;  // a free text that the device carries (ifalias)
    std::uint32_t mtu = 0;
};
// All devices of the socket's namespace whose names start with `prefix`.
[[nodiscard]] Result<std::vector<Device>> list_devices(NetlinkSocket& route, std::string_view prefix);
[[nodiscard]] Result<Device> find_device(NetlinkSocket& route, const std::string& name);

// A virtual cable: `name` with number `number` here, `peer` in the namespace `peer_namespace`.
[[nodiscard]] NetlinkRequest add_veth_request(const std::string& name, int number, const std::string& peer,
                                              const Fd& peer_namespace, std::uint32_t mtu);
[[nodiscard]] NetlinkRequest set_up_request(int number);
[[nodiscard]] NetlinkRequest set_alias_request(int number, const std::string& alias);
[[nodiscard]] NetlinkRequest set_mac_and_mtu_request(int number, const Mac& mac, std::uint32_t mtu);
[[nodiscard]] NetlinkRequest delete_device_request(int number);
[[nodiscard]] NetlinkRequest add_address_request(int number, Ipv4 address, unsigned prefix_length);
[[nodiscard]] NetlinkRequest add_default_route_request(Ipv4 gateway, int number);
// The kernel never asks who has this address: it is at `mac`. Replaces an older entry.
[[nodiscard]] NetlinkRequest set_neighbour_request(int number, Ipv4 address, const Mac& mac);
// The kernel asks who has this address, and holds what is sent to it until somebody answers.
[[nodiscard]] NetlinkRequest forget_neighbour_request(int number, Ipv4 address);
// What leaves through the device is held to this many bytes per second; 0: unlimited.
[[nodiscard]] Result<void> limit_rate(NetlinkSocket& route, int number, std::uint64_t bytes_per_second);

struct DefaultRoute {
    int device = 0;
    std::uint32_t metric = 0;
};
// The IPv4 default route that wins; nothing if there is none.
[[nodiscard]] Result<std::optional<DefaultRoute>> find_default_route(NetlinkSocket& route);
// The device and destination of each IPv4 route of the main table, default routes left out.
struct Route {
    int device = 0;
    Ipv4Network destination;
};
[[nodiscard]] Result<std::vector<Route>> list_routes(NetlinkSocket& route);

}  // namespace noid::net
