#include "net/uplink.hpp"

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/fd.hpp"
#include "net/links.hpp"

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
    Fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)};
    if (!socket) return fail_errno(errno, "cannot watch the routes");
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_ROUTE;
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail_errno(errno, "cannot watch the routes");
    return UplinkWatch{asio::posix::stream_descriptor{std::move(executor), socket.release()}};
}

// Reads all that has happened; true if some of it matters.
bool UplinkWatch::drain(const std::optional<Uplink>& current) {
    bool relevant = false;
    alignas(nlmsghdr) std::array<char, 32 * 1024> buffer{};
    while (true) {
        const ssize_t got = ::recv(socket_.native_handle(), buffer.data(), buffer.size(), 0);
        if (got < 0 && errno == EINTR) continue;
        // More happened than the socket could hold: anything may have.
        if (got < 0 && errno == ENOBUFS) {
            relevant = true;
            continue;
        }
        if (got < 0) return relevant;
        auto left = static_cast<unsigned>(got);
        for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left))
            relevant |= is_relevant(*header, current);
    }
}

Awaitable<Result<void>> UplinkWatch::changed(std::optional<Uplink> current) {
    while (!drain(current)) {
        boost::system::error_code error;
        co_await socket_.async_wait(asio::posix::stream_descriptor::wait_read,
                                    asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return fail(Errc::cancelled, "no longer watching the routes");
    }
    co_return Result<void>{};
}

}  // namespace noid::net
