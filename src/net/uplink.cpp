#include "net/uplink.hpp"

#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>

#include "net/links.hpp"
#include "net/netlink_events.hpp"

namespace noid::net {

namespace {

bool is_sane_name(const std::string& name) {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view{"_.:@-"}.find(c) != std::string_view::npos;
    });
}

bool is_relevant(const nlmsghdr& header, const std::optional<Uplink>& current) {
    switch (header.nlmsg_type) {
        case RTM_NEWROUTE:
        case RTM_DELROUTE: {
            const auto& route = *static_cast<const rtmsg*>(NLMSG_DATA(&header));
            return route.rtm_family == AF_INET && route.rtm_dst_len == 0;
        }
        case RTM_NEWLINK:
        case RTM_DELLINK: {
            // Slots come and go all the time; without an uplink, a device may be the configured one.
            const auto& link = *static_cast<const ifinfomsg*>(NLMSG_DATA(&header));
            return !current || link.ifi_index == current->number;
        }
        default:
            return false;
    }
}

}  // namespace

Result<std::optional<Uplink>> find_uplink(NetlinkSocket& route, const std::string& configured) {
    std::string name = configured;
    if (name.empty()) {
        const auto default_route = find_default_route(route);
        if (!default_route) return fail(default_route.error());
        if (!*default_route) return std::nullopt;
        std::array<char, IF_NAMESIZE> buffer{};
        if (::if_indextoname(static_cast<unsigned>((*default_route)->device), buffer.data()) == nullptr)
            return std::nullopt;
        name = buffer.data();
    }
    if (!is_sane_name(name)) return std::nullopt;
    const auto device = find_device(route, name);
    if (!device && device.error().code == Errc::not_found) return std::nullopt;
    if (!device) return fail(device.error());
    return Uplink{device->number, device->name, device->mtu};
}

Result<UplinkWatch> UplinkWatch::open(asio::any_io_executor executor) {
    auto socket = open_netlink_events(NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_IPV4_ROUTE, "the routes");
    if (!socket) return fail(std::move(socket.error()));
    return UplinkWatch{asio::posix::stream_descriptor{std::move(executor), socket->release()}};
}

Awaitable<Result<void>> UplinkWatch::changed(std::optional<Uplink> current) {
    const auto matters = [&](const nlmsghdr& header) { return is_relevant(header, current); };
    while (!drain_netlink_events(socket_.native_handle(), matters)) {
        boost::system::error_code error;
        co_await socket_.async_wait(asio::posix::stream_descriptor::wait_read,
                                    asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return fail(Errc::cancelled, "no longer watching the routes");
    }
    co_return Result<void>{};
}

}  // namespace noid::net
