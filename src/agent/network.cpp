#include "agent/network.hpp"

#include <dirent.h>
#include <fmt/format.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "agent/device_events.hpp"
#include "agent/network_settings.hpp"
#include "agent/routing_socket.hpp"
#include "agent/text_file.hpp"

namespace noid::agent {

namespace {

struct Interface {
    std::string name;
    int index = 0;
};

bool is_virtio_interface(const std::string& name) {
    std::array<char, 256> target{};
    const std::string link = "/sys/class/net/" + name + "/device/driver";
    const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
    return size > 0 &&
           std::string_view{target.data(), static_cast<std::size_t>(size)}.ends_with("/virtio_net");
}

std::optional<Interface> first_virtio_interface() {
    std::optional<Interface> first;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir("/sys/class/net"), &::closedir};
    if (!directory) return first;
    while (const dirent* entry = ::readdir(directory.get())) {
        Interface found{entry->d_name, 0};
        if (found.name.starts_with('.') || !is_virtio_interface(found.name)) continue;
        found.index = static_cast<int>(::if_nametoindex(found.name.c_str()));
        if (found.index > 0 && (!first || found.index < first->index)) first = std::move(found);
    }
    return first;
}

bool machine_has_network_device() {
    constexpr std::string_view network_device = "0x0001\n";
    const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir("/sys/bus/virtio/devices"), &::closedir};
    if (!directory) return false;
    while (const dirent* entry = ::readdir(directory.get())) {
        if (entry->d_name[0] == '.') continue;
        const auto kind =
            read_text_file(fmt::format("/sys/bus/virtio/devices/{}/device", entry->d_name), 4096);
        if (kind && *kind == network_device) return true;
    }
    return false;
}

Result<Interface> wait_for_interface(std::chrono::milliseconds limit) {
    if (auto present = first_virtio_interface()) return *std::move(present);
    if (!machine_has_network_device()) return fail(Errc::unavailable, "the machine has no network device");
    // Its driver is among the modules that are loaded when the agent is up already.
    auto events = DeviceEvents::open();
    if (!events) return fail(events.error());
    std::optional<Interface> found;
    const auto appeared =
        events->wait_until([&found] { return (found = first_virtio_interface()).has_value(); }, limit);
    if (!appeared) return fail(appeared.error());
    return *std::move(found);
}

std::string attribute(const Interface& interface, std::string_view name) {
    auto text = read_text_file(fmt::format("/sys/class/net/{}/{}", interface.name, name), 4096);
    if (!text) return {};
    text->resize(std::min(text->size(), text->find('\n')));
    return *std::move(text);
}

std::string spelt(const std::array<std::uint8_t, 6>& mac) {
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4],
                       mac[5]);
}

// Its addresses, while it is up or down as it was.
Result<void> set_link(RoutingSocket& routing, const Interface& interface, const NetworkSettings& settings) {
    ifinfomsg header{};
    header.ifi_index = interface.index;
    RoutingRequest request{RTM_NEWLINK, NLM_F_ACK, header};
    if (settings.mac && attribute(interface, "address") != spelt(*settings.mac)) {
        request.with(IFLA_ADDRESS, *settings.mac);
    }
    if (attribute(interface, "mtu") != std::to_string(settings.mtu)) request.with(IFLA_MTU, settings.mtu);
    return routing.change(request, "set up " + interface.name);
}

Result<void> bring_up(RoutingSocket& routing, const Interface& interface) {
    ifinfomsg header{};
    header.ifi_index = interface.index;
    header.ifi_flags = IFF_UP;
    header.ifi_change = IFF_UP;
    RoutingRequest request{RTM_NEWLINK, NLM_F_ACK, header};
    return routing.change(request, "bring up " + interface.name);
}

struct Ipv4Address {
    in_addr address{};
    std::uint8_t prefix_length = 0;
};

Result<std::vector<Ipv4Address>> list_addresses(RoutingSocket& routing, const Interface& interface) {
    std::vector<Ipv4Address> addresses;
    ifaddrmsg header{};
    header.ifa_family = AF_INET;
    auto listed = routing.list({RTM_GETADDR, NLM_F_DUMP, header}, [&](const RoutingEntry& entry) {
        const auto found = entry.header<ifaddrmsg>();
        if (!found || found->ifa_index != static_cast<unsigned>(interface.index)) return;
        const auto address = entry.attribute<in_addr, ifaddrmsg>(IFA_LOCAL);
        if (address) addresses.push_back({*address, found->ifa_prefixlen});
    });
    if (!listed) return fail(listed.error());
    return addresses;
}

Result<void> add_address(RoutingSocket& routing, const Interface& interface, Ipv4Address address) {
    ifaddrmsg header{};
    header.ifa_family = AF_INET;
    header.ifa_prefixlen = address.prefix_length;
    header.ifa_index = static_cast<unsigned>(interface.index);
    RoutingRequest request{RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, header};
    request.with(IFA_LOCAL, address.address).with(IFA_ADDRESS, address.address);
    return routing.change(request, "set the address of " + interface.name);
}

Result<void> remove_address(RoutingSocket& routing, const Interface& interface, Ipv4Address address) {
    ifaddrmsg header{};
    header.ifa_family = AF_INET;
    header.ifa_prefixlen = address.prefix_length;
    header.ifa_index = static_cast<unsigned>(interface.index);
    RoutingRequest request{RTM_DELADDR, NLM_F_ACK, header};
    request.with(IFA_LOCAL, address.address);
    auto removed = routing.change(request, "remove an address of " + interface.name);
    // The kernel removes secondary addresses together with their primary one.
    if (!removed && removed.error().cause == std::errc::address_not_available) return {};
    return removed;
}

Result<void> set_address(RoutingSocket& routing, const Interface& interface,
                         const NetworkSettings& settings) {
    const auto present = list_addresses(routing, interface);
    if (!present) return fail(present.error());
    for (const auto& address : *present) {
        if (address.address.s_addr == settings.address.s_addr &&
            address.prefix_length == settings.prefix_length) {
            continue;
        }
        if (auto removed = remove_address(routing, interface, address); !removed) return removed;
    }
    // Also when it was there: it may have gone along with its primary address.
    return add_address(routing, interface, {settings.address, settings.prefix_length});
}

Result<void> set_default_route(RoutingSocket& routing, const Interface& interface, in_addr gateway) {
    rtmsg header{};
    header.rtm_family = AF_INET;
    header.rtm_table = RT_TABLE_MAIN;
    header.rtm_protocol = RTPROT_STATIC;
    header.rtm_scope = RT_SCOPE_UNIVERSE;
    header.rtm_type = RTN_UNICAST;
    RoutingRequest request{RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, header};
    request.with(RTA_GATEWAY, gateway).with(RTA_OIF, interface.index);
    return routing.change(request, "set the default route");
}

// Another machine may now have the gateway's address: its hardware address is asked for anew.
Result<void> forget_neighbours(RoutingSocket& routing, const Interface& interface) {
    std::vector<in_addr> neighbours;
    ndmsg header{};
    header.ndm_family = AF_INET;
    auto listed = routing.list({RTM_GETNEIGH, NLM_F_DUMP, header}, [&](const RoutingEntry& entry) {
        const auto found = entry.header<ndmsg>();
        if (!found || found->ndm_ifindex != interface.index) return;
        if ((found->ndm_state & (NUD_NOARP | NUD_PERMANENT)) != 0) return;
        if (const auto address = entry.attribute<in_addr, ndmsg>(NDA_DST)) neighbours.push_back(*address);
    });
    if (!listed) return listed;
    for (const auto& neighbour : neighbours) {
        ndmsg gone{};
        gone.ndm_family = AF_INET;
        gone.ndm_ifindex = interface.index;
        RoutingRequest request{RTM_DELNEIGH, NLM_F_ACK, gone};
        auto removed = routing.change(request.with(NDA_DST, neighbour), "forget a neighbour");
        // It may have gone by itself in between.
        if (!removed && removed.error().code != Errc::not_found) return removed;
    }
    return {};
}

Result<void> disable_ipv6(const Interface& interface) {
    const auto path = fmt::format("/proc/sys/net/ipv6/conf/{}/disable_ipv6", interface.name);
    if (::access(path.c_str(), F_OK) != 0) return {};  // a kernel without IPv6
    return write_kernel_file(path, "1");
}

}  // namespace

Result<void> bring_up_loopback() {
    auto routing = RoutingSocket::open();
    if (!routing) return fail(routing.error());
    ifinfomsg header{};
    header.ifi_flags = IFF_UP;
    header.ifi_change = IFF_UP;
    RoutingRequest request{RTM_NEWLINK, NLM_F_ACK, header};
    return routing->change(request.with_name(IFLA_IFNAME, "lo"), "bring lo up");
}

Result<void> configure_network(const proto::GuestNetwork& network, std::chrono::milliseconds limit) {
    const auto settings = parse_network(network);
    if (!settings) return fail(settings.error());
    const auto interface = wait_for_interface(limit);
    if (!interface) return fail(interface.error());
    auto routing = RoutingSocket::open();
    if (!routing) return fail(routing.error());

    // A new interface is seen in /sys before the kernel has made its IPv6 settings. A change by netlink waits
    // until they are there; and they are changed before it is up, so that not even a router solicitation
    // leaves.
    if (auto done = set_link(*routing, *interface, *settings); !done) return done;
    if (auto done = disable_ipv6(*interface); !done) return done;
    if (auto done = bring_up(*routing, *interface); !done) return done;
    if (auto done = set_address(*routing, *interface, *settings); !done) return done;
    if (auto done = forget_neighbours(*routing, *interface); !done) return done;
    if (settings->gateway) {
        if (auto done = set_default_route(*routing, *interface, *settings->gateway); !done) return done;
    }
    if (settings->resolver_file.empty()) return {};
    return replace_text_file("/etc/resolv.conf", settings->resolver_file);
}

}  // namespace noid::agent
