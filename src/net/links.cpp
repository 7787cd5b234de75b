#include "net/links.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <new>

namespace noid::net {

namespace {

NetlinkMessage make_message(int type, int flags) {
    NetlinkMessage message{nlmsg_alloc_simple(type, flags)};
    if (!message) throw std::bad_alloc{};
    return message;
}

// The fixed part of a message. nl_msg grows by pages and fails only without memory.
template <class Header>
void put_header(nl_msg& message, const Header& header) {
    Header copy = header;
    if (nlmsg_append(&message, &copy, sizeof copy, NLMSG_ALIGNTO) < 0) throw std::bad_alloc{};
}

template <class T>
void put(nl_msg& message, int attribute, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (nla_put(&message, attribute, sizeof value, &value) < 0) throw std::bad_alloc{};
}

void put_text(nl_msg& message, int attribute, const std::string& text) {
    if (nla_put_string(&message, attribute, text.c_str()) < 0) throw std::bad_alloc{};
}

std::uint32_t wire_order(Ipv4 address) {
    return htonl(address.to_uint());
}

// Nested attributes close with this object.
class Nest {
  public:
    Nest(nl_msg& message, int attribute) : message_{message}, start_{nla_nest_start(&message, attribute)} {
        if (start_ == nullptr) throw std::bad_alloc{};
    }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;
    ~Nest() { nla_nest_end(&message_, start_); }

  private:
    nl_msg& message_;
    nlattr* start_;
};

ifinfomsg link_header(int number) {
    ifinfomsg header{};
    header.ifi_family = AF_UNSPEC;
    header.ifi_index = number;
    return header;
}

template <std::size_t N>
using Attributes = std::array<nlattr*, N>;

// The attributes behind a fixed header; those that are not there are nullptr.
template <class Header, std::size_t N>
bool parse_attributes(const nlmsghdr& header, Attributes<N>& out) {
    return nlmsg_parse(const_cast<nlmsghdr*>(&header), sizeof(Header), out.data(), static_cast<int>(N) - 1,
                       nullptr) >= 0;
}

std::string text_of(nlattr* attribute) {
    if (attribute == nullptr) return {};
    const std::string_view bytes{static_cast<const char*>(nla_data(attribute)),
                                 static_cast<std::size_t>(nla_len(attribute))};
    return std::string{bytes.substr(0, bytes.find('\0'))};
}

std::uint32_t number_of(nlattr* attribute) {
    if (attribute == nullptr || nla_len(attribute) < static_cast<int>(sizeof(std::uint32_t))) return 0;
    return nla_get_u32(attribute);
}

std::optional<Device> parse_device(const nlmsghdr& header) {
    Attributes<IFLA_MAX + 1> attributes{};
    if (header.nlmsg_type != RTM_NEWLINK || !parse_attributes<ifinfomsg>(header, attributes))
        return std::nullopt;
    Device device;
    device.number = static_cast<const ifinfomsg*>(NLMSG_DATA(&header))->ifi_index;
    device.name = text_of(attributes[IFLA_IFNAME]);
    device.alias = text_of(attributes[IFLA_IFALIAS]);
    device.mtu = number_of(attributes[IFLA_MTU]);
    return device;
}

// Calls `each` with the header and attributes of every IPv4 route in the main table.
template <class Each>
Result<void> for_each_route(NetlinkSocket& route, Each each) {
    auto message = make_message(RTM_GETROUTE, NLM_F_DUMP);
    rtmsg header{};
    header.rtm_family = AF_INET;
    put_header(*message, header);
    return route.query(std::move(message), "list routes", [&](const nlmsghdr& answer) {
        Attributes<RTA_MAX + 1> attributes{};
        if (answer.nlmsg_type != RTM_NEWROUTE || !parse_attributes<rtmsg>(answer, attributes)) return;
        const auto& found = *static_cast<const rtmsg*>(NLMSG_DATA(&answer));
        const auto table =
            attributes[RTA_TABLE] != nullptr ? number_of(attributes[RTA_TABLE]) : found.rtm_table;
        if (table == RT_TABLE_MAIN && found.rtm_type == RTN_UNICAST) each(found, attributes);
    });
}

// The device a route leads through; of several next hops the first.
int device_of(const Attributes<RTA_MAX + 1>& attributes) {
    if (attributes[RTA_OIF] != nullptr) return static_cast<int>(number_of(attributes[RTA_OIF]));
    nlattr* hops = attributes[RTA_MULTIPATH];
    if (hops == nullptr || nla_len(hops) < static_cast<int>(sizeof(rtnexthop))) return 0;
    return static_cast<const rtnexthop*>(nla_data(hops))->rtnh_ifindex;
}

}  // namespace

Result<std::vector<Device>> list_devices(NetlinkSocket& route, std::string_view prefix) {
    auto message = make_message(RTM_GETLINK, NLM_F_DUMP);
    put_header(*message, link_header(0));
    std::vector<Device> devices;
    auto listed = route.query(std::move(message), "list devices", [&](const nlmsghdr& answer) {
        auto device = parse_device(answer);
        if (device && device->name.starts_with(prefix)) devices.push_back(std::move(*device));
    });
    if (!listed) return fail(listed.error());
    return devices;
}

Result<Device> find_device(NetlinkSocket& route, const std::string& name) {
    auto message = make_message(RTM_GETLINK, 0);
    put_header(*message, link_header(0));
    put_text(*message, IFLA_IFNAME, name);
    std::optional<Device> device;
    auto asked = route.query(std::move(message), "find device " + name,
                             [&](const nlmsghdr& answer) { device = parse_device(answer); });
    if (!asked && asked.error().cause == std::errc::no_such_device)
        return fail(Errc::not_found, "no device " + name);
    if (!asked) return fail(asked.error());
    if (!device) return fail(Errc::corrupt, "no description of device " + name);
    return std::move(*device);
}

NetlinkRequest add_veth_request(const std::string& name, int number, const std::string& peer,
                                const Fd& peer_namespace, std::uint32_t mtu) {
    auto message = make_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    put_header(*message, link_header(number));
    put_text(*message, IFLA_IFNAME, name);
    put(*message, IFLA_MTU, mtu);
    {
        const Nest info{*message, IFLA_LINKINFO};
        put_text(*message, IFLA_INFO_KIND, "veth");
        const Nest data{*message, IFLA_INFO_DATA};
        const Nest other_end{*message, VETH_INFO_PEER};
        put_header(*message, link_header(0));
        put_text(*message, IFLA_IFNAME, peer);
        put(*message, IFLA_MTU, mtu);
        put(*message, IFLA_NET_NS_FD, static_cast<std::uint32_t>(peer_namespace.get()));
    }
    return {std::move(message), "make device " + peer};
}

NetlinkRequest set_up_request(int number) {
    auto message = make_message(RTM_NEWLINK, 0);
    ifinfomsg header = link_header(number);
    header.ifi_flags = IFF_UP;
    header.ifi_change = IFF_UP;
    put_header(*message, header);
    return {std::move(message), "bring a device up"};
}

NetlinkRequest set_alias_request(int number, const std::string& alias) {
    auto message = make_message(RTM_NEWLINK, 0);
    put_header(*message, link_header(number));
    put_text(*message, IFLA_IFALIAS, alias);
    return {std::move(message), "label a device"};
}

NetlinkRequest set_mac_and_mtu_request(int number, const Mac& mac, std::uint32_t mtu) {
    auto message = make_message(RTM_NEWLINK, 0);
    put_header(*message, link_header(number));
    put(*message, IFLA_ADDRESS, mac.bytes);
    put(*message, IFLA_MTU, mtu);
    return {std::move(message), "set a device's hardware address"};
}

NetlinkRequest delete_device_request(int number) {
    auto message = make_message(RTM_DELLINK, 0);
    put_header(*message, link_header(number));
    return {std::move(message), "delete a device"};
}

NetlinkRequest add_address_request(int number, Ipv4 address, unsigned prefix_length) {
    auto message = make_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
    ifaddrmsg header{};
    header.ifa_family = AF_INET;
    header.ifa_prefixlen = static_cast<unsigned char>(prefix_length);
    header.ifa_index = static_cast<unsigned>(number);
    put_header(*message, header);
    put(*message, IFA_LOCAL, wire_order(address));
    put(*message, IFA_ADDRESS, wire_order(address));
    return {std::move(message), fmt::format("add address {}/{}", address.to_string(), prefix_length)};
}

NetlinkRequest add_default_route_request(Ipv4 gateway, int number) {
    auto message = make_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
    rtmsg header{};
    header.rtm_family = AF_INET;
    header.rtm_table = RT_TABLE_MAIN;
    header.rtm_protocol = RTPROT_STATIC;
    header.rtm_scope = RT_SCOPE_UNIVERSE;
    header.rtm_type = RTN_UNICAST;
    put_header(*message, header);
    put(*message, RTA_GATEWAY, wire_order(gateway));
    put(*message, RTA_OIF, static_cast<std::uint32_t>(number));
    return {std::move(message), "add the default route by " + gateway.to_string()};
}

NetlinkRequest set_neighbour_request(int number, Ipv4 address, const Mac& mac) {
    auto message = make_message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
    ndmsg header{};
    header.ndm_family = AF_INET;
    header.ndm_ifindex = number;
    header.ndm_state = NUD_PERMANENT;
    put_header(*message, header);
    put(*message, NDA_DST, wire_order(address));
    put(*message, NDA_LLADDR, mac.bytes);
    return {std::move(message), "set the neighbour " + address.to_string()};
}

NetlinkRequest forget_neighbour_request(int number, Ipv4 address) {
    auto message = make_message(RTM_DELNEIGH, 0);
    ndmsg header{};
    header.ndm_family = AF_INET;
    header.ndm_ifindex = number;
    put_header(*message, header);
    put(*message, NDA_DST, wire_order(address));
    return {std::move(message), "forget the neighbour " + address.to_string()};
}

Result<void> limit_rate(NetlinkSocket& route, int number, std::uint64_t bytes_per_second) {
    tcmsg header{};
    header.tcm_family = AF_UNSPEC;
    header.tcm_ifindex = number;
    header.tcm_parent = TC_H_ROOT;
    header.tcm_handle = TC_H_MAKE(1U << 16, 0U);
    if (bytes_per_second == 0) {
        auto message = make_message(RTM_DELQDISC, 0);
        put_header(*message, header);
        auto removed = route.send(std::move(message), "remove a rate limit");
        const bool was_none = !removed && (removed.error().cause == std::errc::no_such_file_or_directory ||
                                           removed.error().cause == std::errc::invalid_argument);
        if (was_none) return {};
        return removed;
    }
    // The bucket holds 50 ms at full rate, and at least what a segmentation-offloaded packet has.
    constexpr std::uint64_t least_burst = 128 * 1024;
    const auto burst = static_cast<std::uint32_t>(std::max(least_burst, bytes_per_second / 20));
    tc_tbf_qopt options{};
    options.rate.linklayer = TC_LINKLAYER_ETHERNET;
    options.rate.rate = static_cast<std::uint32_t>(bytes_per_second);
    // The queue behind it holds 100 ms more, then drops.
    options.limit =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(burst + bytes_per_second / 10, UINT32_MAX));
    auto message = make_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE);
    put_header(*message, header);
    put_text(*message, TCA_KIND, "tbf");
    {
        const Nest inside{*message, TCA_OPTIONS};
        put(*message, TCA_TBF_PARMS, options);
        put(*message, TCA_TBF_BURST, burst);
        put(*message, TCA_TBF_RATE64, bytes_per_second);
    }
    return route.send(std::move(message), "set a rate limit");
}

Result<std::optional<DefaultRoute>> find_default_route(NetlinkSocket& route) {
    std::optional<DefaultRoute> best;
    auto listed = for_each_route(route, [&](const rtmsg& found, const Attributes<RTA_MAX + 1>& attributes) {
        const DefaultRoute candidate{device_of(attributes), number_of(attributes[RTA_PRIORITY])};
        if (found.rtm_dst_len != 0 || candidate.device == 0) return;
        if (!best || candidate.metric < best->metric) best = candidate;
    });
    if (!listed) return fail(listed.error());
    return best;
}

Result<std::vector<Route>> list_routes(NetlinkSocket& route) {
    std::vector<Route> routes;
    auto listed = for_each_route(route, [&](const rtmsg& found, const Attributes<RTA_MAX + 1>& attributes) {
        if (found.rtm_dst_len == 0 || attributes[RTA_DST] == nullptr) return;
        const Ipv4 destination{ntohl(number_of(attributes[RTA_DST]))};
        routes.push_back({device_of(attributes), Ipv4Network{destination, found.rtm_dst_len}});
    });
    if (!listed) return fail(listed.error());
    return routes;
}

}  // namespace noid::net
