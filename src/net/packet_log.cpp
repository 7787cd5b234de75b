#include "net/packet_log.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <new>

#include "net/netlink.hpp"

namespace noid::net {

namespace {

NetlinkMessage make_listen_message(std::uint16_t group) {
    constexpr int subsystem = NFNL_SUBSYS_ULOG << 8;
    NetlinkMessage message{nlmsg_alloc_simple(subsystem | NFULNL_MSG_CONFIG, NLM_F_REQUEST | NLM_F_ACK)};
    if (!message) throw std::bad_alloc{};
    nfgenmsg header{};
    header.nfgen_family = AF_UNSPEC;
    header.version = NFNETLINK_V0;
    header.res_id = htons(group);
    nfulnl_msg_config_cmd bind{};
    bind.command = NFULNL_CFG_CMD_BIND;
    nfulnl_msg_config_mode mode{};
    mode.copy_mode = NFULNL_COPY_META;
    constexpr std::uint32_t at_once = 1;  // packet
    if (nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO) < 0 ||
        nla_put(message.get(), NFULA_CFG_CMD, sizeof bind, &bind) < 0 ||
        nla_put(message.get(), NFULA_CFG_MODE, sizeof mode, &mode) < 0 ||
        nla_put_u32(message.get(), NFULA_CFG_QTHRESH, htonl(at_once)) < 0)
        throw std::bad_alloc{};
    return message;
}

}  // namespace

Result<Fd> open_packet_log() {
    Fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER)};
    if (!socket) return fail_errno(errno, "cannot open a packet log");
    sockaddr_nl own{};
    own.nl_family = AF_NETLINK;
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0)
        return fail_errno(errno, "cannot open a packet log");
    return socket;
}

Result<void> listen_to_packet_log(const Fd& socket, std::uint16_t group) {
    const auto message = make_listen_message(group);
    const nlmsghdr& header = *nlmsg_hdr(message.get());
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    if (::sendto(socket.get(), &header, header.nlmsg_len, 0, reinterpret_cast<const sockaddr*>(&kernel),
                 sizeof kernel) < 0)
        return fail_errno(errno, "cannot listen to a packet log");
    // The kernel has answered before sendto() returned.
    alignas(nlmsghdr) std::array<char, 1024> answer{};
    const ssize_t got = ::recv(socket.get(), answer.data(), answer.size(), 0);
    if (got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr))))
        return fail_errno(got < 0 ? errno : EBADMSG, "cannot listen to a packet log");
    const auto* said = reinterpret_cast<const nlmsghdr*>(answer.data());
    const int error =
        said->nlmsg_type == NLMSG_ERROR ? -static_cast<const nlmsgerr*>(NLMSG_DATA(said))->error : EBADMSG;
    if (error != 0) return fail_errno(error, "cannot listen to a packet log");
    return {};
}

void drain_packet_log(int socket) {
    std::array<char, 4096> ignored{};
    // ENOBUFS says that there was more than fits, once; then it goes on.
    while (::recv(socket, ignored.data(), ignored.size(), MSG_DONTWAIT) >= 0 || errno == ENOBUFS ||
           errno == EINTR) {
    }
}

}  // namespace noid::net
