#include "net/netlink_events.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace noid::net {

Result<Fd> open_netlink_events(int family, std::uint32_t groups, std::string_view what) {
    Fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, family)};
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = groups;
    if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail_errno(errno, fmt::format("cannot watch {}", what));
    return socket;
}

bool drain_netlink_events(int socket, const std::function<bool(const nlmsghdr&)>& is_relevant) {
    bool relevant = false;
    alignas(nlmsghdr) std::array<char, 32 * 1024> buffer{};
    while (true) {
        const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), 0);
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
            relevant |= is_relevant(*header);
    }
}

}  // namespace noid::net
