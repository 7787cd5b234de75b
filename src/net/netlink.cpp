#include "net/netlink.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace noid::net {

namespace {

constexpr std::size_t receive_bytes = 64 * 1024;  // more than the kernel puts into one datagram of a dump

NetlinkMessage batch_message(int type) {
    NetlinkMessage message{nlmsg_alloc_simple(type, 0)};
    nfgenmsg header{};
    header.nfgen_family = AF_UNSPEC;
    header.version = NFNETLINK_V0;
    header.res_id = htons(NFNL_SUBSYS_NFTABLES);
    nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO);
    return message;
}

// The error that an NLMSG_ERROR carries; 0: an acknowledgement.
int error_in(const nlmsghdr& header) {
    if (header.nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr))) return EBADMSG;
    return -static_cast<const nlmsgerr*>(NLMSG_DATA(&header))->error;
}

}  // namespace

void FreeMessage::operator()(nl_msg* message) const noexcept {
    nlmsg_free(message);
}
void NetlinkSocket::Close::operator()(nl_sock* socket) const noexcept {
    nl_socket_free(socket);
}

Result<NetlinkSocket> NetlinkSocket::open(int family) {
    std::unique_ptr<nl_sock, Close> socket{nl_socket_alloc()};
    if (!socket) return fail_errno(ENOMEM, "cannot make a netlink socket");
    errno = 0;
    if (nl_connect(socket.get(), family) < 0)
        return fail_errno(errno != 0 ? errno : EPROTONOSUPPORT, "cannot open a netlink socket");
    const timeval deadline{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(nl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    // Replies are matched by sequence number here, not by libnl.
    NetlinkSocket result{std::move(socket)};
    result.buffer_.resize(receive_bytes);
    return result;
}

std::uint32_t NetlinkSocket::append(std::string& out, nl_msg& message, int flags) {
    nlmsghdr& header = *nlmsg_hdr(&message);
    header.nlmsg_flags = static_cast<std::uint16_t>(header.nlmsg_flags | NLM_F_REQUEST | flags);
    header.nlmsg_seq = nl_socket_use_seq(socket_.get());
    header.nlmsg_pid = nl_socket_get_local_port(socket_.get());
    out.append(reinterpret_cast<const char*>(&header), header.nlmsg_len);
    out.resize(NLMSG_ALIGN(out.size()));
    return header.nlmsg_seq;
}

Result<void> NetlinkSocket::transmit(const std::string& bytes) {
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    const auto sent = ::sendto(nl_socket_get_fd(socket_.get()), bytes.data(), bytes.size(), 0,
                               reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
    if (sent != static_cast<ssize_t>(bytes.size())) return fail_errno(errno, "cannot send to the kernel");
    return {};
}

Result<std::size_t> NetlinkSocket::receive() {
    while (true) {
        const ssize_t got = ::recv(nl_socket_get_fd(socket_.get()), buffer_.data(), buffer_.size(), 0);
        if (got >= 0) return static_cast<std::size_t>(got);
        if (errno == EINTR) continue;
        return fail_errno(errno == EAGAIN ? ETIMEDOUT : errno, "no answer from the kernel");
    }
}

Result<void> NetlinkSocket::await_acknowledgements(std::vector<Expected> expected) {
    Result<void> result;
    std::size_t missing = expected.size();
    while (missing > 0) {
        const auto got = receive();
        if (!got) return fail(got.error());
        auto left = static_cast<unsigned>(*got);
        for (auto* header = reinterpret_cast<nlmsghdr*>(buffer_.data()); NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left)) {
            if (header->nlmsg_type != NLMSG_ERROR) continue;
            const auto found = std::find_if(expected.begin(), expected.end(), [&](const Expected& each) {
                return each.sequence == header->nlmsg_seq;
            });
            const int error = error_in(*header);
            if (found == expected.end()) {
                // Of an earlier call that gave up, or of a batch's frame, which speaks for the batch.
                if (error != 0 && !expected.empty() && header->nlmsg_seq + 1 == expected.front().sequence)
                    return fail_errno(error, expected.front().doing);
                continue;
            }
            --missing;
            if (error != 0 && result) result = fail_errno(error, found->doing);
        }
    }
    return result;
}

Result<void> NetlinkSocket::send_all(std::vector<NetlinkRequest> requests) {
    std::string bytes;
    std::vector<Expected> expected;
    for (auto& request : requests)
        expected.push_back({append(bytes, *request.message, NLM_F_ACK), std::move(request.doing)});
    if (auto sent = transmit(bytes); !sent) return sent;
    return await_acknowledgements(std::move(expected));
}

Result<void> NetlinkSocket::send(NetlinkMessage message, std::string doing) {
    std::vector<NetlinkRequest> requests;
    requests.push_back({std::move(message), std::move(doing)});
    return send_all(std::move(requests));
}

Result<void> NetlinkSocket::commit(std::vector<NetlinkRequest> requests) {
    std::string bytes;
    std::vector<Expected> expected;
    append(bytes, *batch_message(NFNL_MSG_BATCH_BEGIN), 0);
    for (auto& request : requests)
        expected.push_back({append(bytes, *request.message, NLM_F_ACK), std::move(request.doing)});
    append(bytes, *batch_message(NFNL_MSG_BATCH_END), 0);
    if (auto sent = transmit(bytes); !sent) return sent;
    return await_acknowledgements(std::move(expected));
}

Result<void> NetlinkSocket::query(NetlinkMessage message, std::string doing, const Each& each) {
    std::string bytes;
    const bool is_dump = (nlmsg_hdr(message.get())->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    const auto sequence = append(bytes, *message, 0);
    if (auto sent = transmit(bytes); !sent) return sent;
    while (true) {
        const auto got = receive();
        if (!got) return fail(got.error());
        auto left = static_cast<unsigned>(*got);
        for (auto* header = reinterpret_cast<nlmsghdr*>(buffer_.data()); NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left)) {
            if (header->nlmsg_seq != sequence) continue;
            if (header->nlmsg_type == NLMSG_DONE) return {};
            if (header->nlmsg_type == NLMSG_ERROR) {
                const int error = error_in(*header);
                if (error == 0) return {};
                return fail_errno(error, doing);
            }
            each(*header);
            if (!is_dump) return {};
        }
    }
}

}  // namespace noid::net
