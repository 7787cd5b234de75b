#include "net/slot_kernel.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "net/conntrack.hpp"
#include "net/links.hpp"
#include "net/netns.hpp"
#include "net/nftables.hpp"
#include "net/packet_log.hpp"
#include "net/tap.hpp"

namespace noid::net {

namespace {

// Device numbers inside of slots, above those that a namespace is born with.
constexpr int uplink_number = 100;
constexpr int tap_number = 101;
constexpr std::uint16_t domain_port = 53;
// For how long packets to a guest that sleeps are held: until the last of these questions, one a second, has
// found no answer. Whoever sent them is told then that the host is unreachable.
constexpr std::string_view questions_to_a_sleeper = "30";

// What a device's alias says of it. The version changes when slots of older make cannot be taken over.
constexpr std::string_view slot_label = "noid-slot/2";
constexpr std::string_view plain_tap_label = "noid-tap/1";

std::string slot_alias(const SlotAddresses& addresses) {
    return fmt::format("{} {}", slot_label, addresses.host.to_string());
}

std::optional<uid_t> parse_plain_tap_alias(std::string_view alias) {
    if (!alias.starts_with(plain_tap_label)) return std::nullopt;
    alias.remove_prefix(plain_tap_label.size());
    if (!alias.starts_with(' ')) return std::nullopt;
    uid_t user = 0;
    const auto [end, error] = std::from_chars(alias.data() + 1, alias.data() + alias.size(), user);
    if (error != std::errc{} || end != alias.data() + alias.size()) return std::nullopt;
    return user;
}

Ipv4 inner_address(const char* text) {
    return boost::asio::ip::make_address_v4(text);
}

// In the slot's namespace: that is the guest's MAC, and the kernel needs not ask.
Result<void> set_guest_neighbour(const Mac& mac) {
    auto route = NetlinkSocket::open(NETLINK_ROUTE);
    if (!route) return fail(route.error());
    std::vector<NetlinkRequest> requests;
    requests.push_back(set_neighbour_request(tap_number, inner_address(inner::guest), mac));
    return route->send_all(std::move(requests));
}

// A kernel without IPv6 has nothing to switch off.
Result<void> switch_ipv6_off(const std::string& device) {
    auto written = write_sysctl(fmt::format("ipv6/conf/{}/disable_ipv6", device), "1");
    if (!written && written.error().code == Errc::not_found) return {};
    return written;
}

// Puts `what` in front of an error, if there is one.
template <class T>
Result<T> at(std::string_view what, Result<T> result) {
    if (!result) return fail(std::move(result.error()).at(what));
    return result;
}

std::vector<LearnedAddress> nothing_learned(const NamePattern&) {
    return {};
}

Result<Fd> bind_dns(int type) {
    Fd socket{::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!socket) return fail_errno(errno, "cannot make a socket for DNS");
    const int yes = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(domain_port);
    address.sin_addr.s_addr = htonl(inner_address(inner::gateway).to_uint());
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail_errno(errno, "cannot bind the DNS port");
    constexpr int backlog = 16;
    if (type == SOCK_STREAM && ::listen(socket.get(), backlog) != 0)
        return fail_errno(errno, "cannot listen at the DNS port");
    return socket;
}

}  // namespace

SlotSettings slot_settings(const NetdConfig& config, const AddressPool& pool) {
    return {config.netns_dir, pool, blocked_networks(config.pool, config.blocked), config.max_connections};
}

Result<SlotKernel> SlotKernel::open(SlotSettings settings) {
    auto route = NetlinkSocket::open(NETLINK_ROUTE);
    if (!route) return fail(std::move(route.error()));
    auto netfilter = NetlinkSocket::open(NETLINK_NETFILTER);
    if (!netfilter) return fail(std::move(netfilter.error()));
    std::error_code error;
    std::filesystem::create_directories(settings.netns_dir, error);
    if (error) return fail_errno(error.value(), "cannot make " + settings.netns_dir.string());
    return SlotKernel{std::move(settings), std::move(*route), std::move(*netfilter)};
}

std::filesystem::path SlotKernel::namespace_of(std::uint32_t index) const {
    return settings_.netns_dir / settings_.pool.at(index).name;
}

Result<std::vector<FoundSlot>> SlotKernel::find_slots() {
    std::map<std::uint32_t, FoundSlot> found;
    for (const auto& name : list_namespaces(settings_.netns_dir)) {
        if (const auto index = parse_slot_name(name)) found[*index].has_namespace = true;
    }
    const auto devices = list_devices(route_, device_prefix);
    if (!devices) return fail(devices.error());
    for (const auto& device : *devices) {
        const auto index = parse_slot_name(device.name);
        if (!index) continue;
        FoundSlot& slot = found[*index];
        slot.has_device = true;
        slot.mtu = device.mtu;
        slot.plain_tap_of = parse_plain_tap_alias(device.alias);
        slot.is_whole = slot.has_namespace && *index < settings_.pool.size() &&
                        device.alias == slot_alias(settings_.pool.at(*index));
    }
    std::vector<FoundSlot> slots;
    for (auto& [index, slot] : found) {
        slot.index = index;
        slots.push_back(slot);
    }
    return slots;
}

Result<void> SlotKernel::build(std::uint32_t index, std::uint32_t mtu) {
    const auto addresses = settings_.pool.at(index);
    if (::if_nametoindex(addresses.name.c_str()) != 0)
        return fail(Errc::conflict, "there is a device " + addresses.name + " already");
    auto built = build_inside(addresses, mtu);
    if (built) built = connect_to_host(addresses);
    if (built) return {};
    // The reason is worth more than what may go wrong when tidying up after it; what is left is found
    // at the next start.
    static_cast<void>(remove(index));
    return at("build slot " + addresses.name, std::move(built));
}

Result<void> SlotKernel::build_inside(const SlotAddresses& addresses, std::uint32_t mtu) {
    const auto inside = InNamespace::create(namespace_of(addresses.index));
    if (!inside) return fail(inside.error());
    // Before there is a device, so that none ever has an IPv6 address.
    for (const char* which : {"all", "default"})
        if (auto off = switch_ipv6_off(which); !off) return off;
    if (auto forwards = write_sysctl("ipv4/ip_forward", "1"); !forwards) return forwards;
    if (auto tap = make_tap(inner::tap, std::nullopt, tap_number); !tap) return tap;
    const std::string questions = fmt::format("ipv4/neigh/{}/mcast_solicit", inner::tap);
    if (auto patient = write_sysctl(questions, std::string{questions_to_a_sleeper}); !patient) return patient;

    auto route = NetlinkSocket::open(NETLINK_ROUTE);
    if (!route) return fail(route.error());
    constexpr unsigned outer_prefix = 30;
    std::vector<NetlinkRequest> requests;
    requests.push_back(add_veth_request(inner::uplink, uplink_number, addresses.name, inside->home(), mtu));
    requests.push_back(set_mac_and_mtu_request(tap_number, inner::gateway_mac, mtu));
    requests.push_back(add_address_request(tap_number, inner_address(inner::gateway), inner::prefix_length));
    requests.push_back(add_address_request(uplink_number, addresses.guest, outer_prefix));
    requests.push_back(set_up_request(tap_number));
    requests.push_back(set_up_request(uplink_number));
    requests.push_back(add_default_route_request(addresses.host, uplink_number));
    requests.push_back(set_neighbour_request(tap_number, inner_address(inner::guest), inner::guest_mac));
    if (auto sent = route->send_all(std::move(requests)); !sent) return sent;

    const SlotRules rules{addresses, inner::guest_mac, settings_.blocked, settings_.max_connections};
    return run_nft(slot_ruleset(rules, Before::nothing) +
                   policy_ruleset(Policy{}, nothing_learned, Before::nothing));
}

Result<void> SlotKernel::connect_to_host(const SlotAddresses& addresses) {
    const auto device = find_device(route_, addresses.name);
    if (!device) return fail(device.error());
    if (auto off = switch_ipv6_off(addresses.name); !off) return off;
    constexpr unsigned outer_prefix = 30;
    std::vector<NetlinkRequest> requests;
    requests.push_back(add_address_request(device->number, addresses.host, outer_prefix));
    requests.push_back(set_up_request(device->number));
    // Last: it says that the slot is whole.
    requests.push_back(set_alias_request(device->number, slot_alias(addresses)));
    return route_.send_all(std::move(requests));
}

Result<void> SlotKernel::renew(std::uint32_t index) {
    const auto addresses = settings_.pool.at(index);
    const auto renewed = [&]() -> Result<void> {
        const auto inside = InNamespace::enter(namespace_of(index));
        if (!inside) return fail(inside.error());
        if (auto closed = make_tap(inner::tap, std::nullopt); !closed) return closed;
        const SlotRules rules{addresses, inner::guest_mac, settings_.blocked, settings_.max_connections};
        if (auto set = run_nft(slot_ruleset(rules) + policy_ruleset(Policy{}, nothing_learned)); !set)
            return set;
        auto route = NetlinkSocket::open(NETLINK_ROUTE);
        if (!route) return fail(route.error());
        for (const int device : {tap_number, uplink_number})
            if (auto unlimited = limit_rate(*route, device, 0); !unlimited) return unlimited;
        std::vector<NetlinkRequest> requests;
        requests.push_back(set_neighbour_request(tap_number, inner_address(inner::guest), inner::guest_mac));
        return route->send_all(std::move(requests));
    }();
    if (!renewed) return at("renew slot " + addresses.name, renewed);
    auto netfilter = netfilter_of(index);
    if (!netfilter) return fail(netfilter.error());
    if (auto forgotten = forget_all_connections(**netfilter); !forgotten) return forgotten;
    // Nor may the host let late packets of the old guest's connections through to the new one.
    return forget_connections_from(netfilter_, addresses.guest);
}

Result<void> SlotKernel::remove(std::uint32_t index) {
    const auto addresses = settings_.pool.at(index);
    slot_netfilter_.erase(index);
    if (const unsigned number = ::if_nametoindex(addresses.name.c_str()); number != 0) {
        std::vector<NetlinkRequest> requests;
        requests.push_back(delete_device_request(static_cast<int>(number)));
        auto removed = route_.send_all(std::move(requests));
        if (!removed && removed.error().cause != std::errc::no_such_device) return removed;
    }
    // A process in it, or a copy of the mount, may keep the namespace alive; the TAP must not live on.
    if (auto inside = InNamespace::enter(namespace_of(index))) {
        if (const unsigned number = ::if_nametoindex(inner::tap); number != 0) {
            auto route = NetlinkSocket::open(NETLINK_ROUTE);
            if (!route) return fail(route.error());
            std::vector<NetlinkRequest> requests;
            requests.push_back(delete_device_request(static_cast<int>(number)));
            if (auto removed = route->send_all(std::move(requests)); !removed) return removed;
        }
    }
    if (auto forgotten = forget_connections_from(netfilter_, addresses.guest); !forgotten) return forgotten;
    return remove_namespace(namespace_of(index));
}

Result<DnsSockets> SlotKernel::open_dns(std::uint32_t index) {
    const auto inside = InNamespace::enter(namespace_of(index));
    if (!inside) return fail(inside.error());
    auto udp = bind_dns(SOCK_DGRAM);
    if (!udp) return fail(std::move(udp.error()));
    auto tcp = bind_dns(SOCK_STREAM);
    if (!tcp) return fail(std::move(tcp.error()));
    return DnsSockets{std::move(*udp), std::move(*tcp)};
}

Result<void> SlotKernel::admit(std::uint32_t index, const Mac& mac) {
    if (mac == inner::guest_mac) return {};
    const auto inside = InNamespace::enter(namespace_of(index));
    if (!inside) return fail(inside.error());
    if (auto set = set_guest_neighbour(mac); !set) return set;
    return run_nft(
        slot_ruleset({settings_.pool.at(index), mac, settings_.blocked, settings_.max_connections}));
}

// Nobody reads from the TAP of a guest that sleeps. As the kernel does not know any more where the guest is,
// it holds what is sent there.
Result<Fd> SlotKernel::put_to_sleep(std::uint32_t index) {
    const auto inside = InNamespace::enter(namespace_of(index));
    if (!inside) return fail(inside.error());
    auto knocks = open_packet_log();
    if (!knocks) return knocks;
    auto route = NetlinkSocket::open(NETLINK_ROUTE);
    if (!route) return fail(route.error());
    std::vector<NetlinkRequest> requests;
    requests.push_back(forget_neighbour_request(tap_number, inner_address(inner::guest)));
    auto forgotten = route->send_all(std::move(requests));
    const bool is_unknown_already = !forgotten && forgotten.error().code == Errc::not_found;
    if (!forgotten && !is_unknown_already) return fail(forgotten.error());
    return knocks;
}

Result<void> SlotKernel::wake(std::uint32_t index, const Mac& mac) {
    const auto inside = InNamespace::enter(namespace_of(index));
    if (!inside) return fail(inside.error());
    return set_guest_neighbour(mac);
}

Result<void> SlotKernel::set_policy(std::uint32_t index, const Policy& policy, const LearnedOf& learned) {
    {
        const auto inside = InNamespace::enter(namespace_of(index));
        if (!inside) return fail(inside.error());
        if (auto set = run_nft(policy_ruleset(policy, learned)); !set) return set;
        auto route = NetlinkSocket::open(NETLINK_ROUTE);
        if (!route) return fail(route.error());
        if (auto limited = limit_rate(*route, tap_number, policy.download); !limited) return limited;
        if (auto limited = limit_rate(*route, uplink_number, policy.upload); !limited) return limited;
    }
    auto netfilter = netfilter_of(index);
    if (!netfilter) return fail(netfilter.error());
    if (policy.mode == Mode::none) return forget_all_connections(**netfilter);
    const auto is_learned = [&](const NamePattern& pattern, Ipv4 address) {
        for (const auto& each : learned(pattern))
            if (each.address == address) return true;
        return false;
    };
    return forget_denied_connections(**netfilter, inner_address(inner::guest), [&](const Flow& flow) {
        return flow.destination != inner_address(inner::gateway) &&
               policy.decide(flow, is_learned) == Action::deny;
    });
}

Result<void> SlotKernel::add_learned(std::uint32_t index, std::size_t rule,
                                     const std::vector<LearnedAddress>& addresses) {
    auto netfilter = netfilter_of(index);
    if (!netfilter) return fail(netfilter.error());
    return add_to_set(**netfilter, policy_table, learned_set_name(rule), addresses);
}

Result<std::vector<LearnedAddress>> SlotKernel::list_learned(std::uint32_t index, std::size_t rule) {
    auto netfilter = netfilter_of(index);
    if (!netfilter) return fail(netfilter.error());
    return list_set(**netfilter, policy_table, learned_set_name(rule));
}

Result<VmStats> SlotKernel::read_stats(std::uint32_t index) {
    auto netfilter = netfilter_of(index);
    if (!netfilter) return fail(netfilter.error());
    const auto frames = read_counters(**netfilter, NFPROTO_NETDEV, table_name);
    if (!frames) return fail(frames.error());
    const auto packets = read_counters(**netfilter, NFPROTO_IPV4, table_name);
    if (!packets) return fail(packets.error());
    const auto connections = count_connections(**netfilter);
    if (!connections) return fail(connections.error());
    const auto traffic = [](const auto& counters, const char* name) {
        const auto found = counters.find(name);
        if (found == counters.end()) return Traffic{};
        return Traffic{found->second.bytes, found->second.packets};
    };
    VmStats stats;
    stats.index = index;
    stats.guest_ip = settings_.pool.at(index).guest;
    stats.forged = traffic(*frames, counter::forged);
    stats.sent = traffic(*packets, counter::sent);
    stats.received = traffic(*packets, counter::received);
    stats.isolated = traffic(*packets, counter::isolated);
    stats.denied = traffic(*packets, counter::denied);
    stats.connections = *connections;
    return stats;
}

Result<void> SlotKernel::make_plain_tap(std::uint32_t index, uid_t user) {
    const auto addresses = settings_.pool.at(index);
    auto made = make_tap(addresses.name, user);
    if (!made) return at("failed to create TAP " + addresses.name, std::move(made));
    const auto device = find_device(route_, addresses.name);
    if (!device) return fail(device.error());
    if (auto off = switch_ipv6_off(addresses.name); !off) return off;
    constexpr unsigned outer_prefix = 30;
    std::vector<NetlinkRequest> requests;
    requests.push_back(add_address_request(device->number, addresses.host, outer_prefix));
    requests.push_back(set_up_request(device->number));
    requests.push_back(set_alias_request(device->number, fmt::format("{} {}", plain_tap_label, user)));
    return route_.send_all(std::move(requests));
}

Result<void> SlotKernel::remove_plain_tap(std::uint32_t index) {
    const auto addresses = settings_.pool.at(index);
    if (auto removed = remove_idle_tap(addresses.name); !removed) return removed;
    return forget_connections_from(netfilter_, addresses.guest);
}

Result<NetlinkSocket*> SlotKernel::netfilter_of(std::uint32_t index) {
    if (const auto known = slot_netfilter_.find(index); known != slot_netfilter_.end()) return &known->second;
    const auto inside = InNamespace::enter(namespace_of(index));
    if (!inside) return fail(inside.error());
    auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
    if (!socket) return fail(std::move(socket.error()));
    return &slot_netfilter_.emplace(index, std::move(*socket)).first->second;
}

}  // namespace noid::net
