#include "agent/routing_socket.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace noid::agent {

RoutingRequest& RoutingRequest::with_name(std::uint16_t attribute, std::string_view name) {
    const std::string terminated{name};
    return with_bytes(attribute, std::as_bytes(std::span{terminated.c_str(), terminated.size() + 1}));
}

std::span<const std::byte> RoutingRequest::finished(std::uint32_t sequence) {
    nlmsghdr header{};
    header.nlmsg_len = static_cast<std::uint32_t>(size_);
    header.nlmsg_type = type_;
    header.nlmsg_flags = static_cast<std::uint16_t>(flags_ | NLM_F_REQUEST);
    header.nlmsg_seq = sequence;
    std::memcpy(message_.data(), &header, sizeof header);
    return std::span{message_}.first(size_);
}

RoutingRequest& RoutingRequest::with_bytes(std::uint16_t attribute, std::span<const std::byte> value) {
    const rtattr header{.rta_len = static_cast<std::uint16_t>(RTA_LENGTH(value.size())),
                        .rta_type = attribute};
    append(std::as_bytes(std::span{&header, 1}));
    append(value);
    return *this;
}

void RoutingRequest::append(std::span<const std::byte> bytes) {
    const std::size_t aligned = NLMSG_ALIGN(bytes.size());
    if (aligned > message_.size() - size_) std::abort();
    std::memcpy(message_.data() + size_, bytes.data(), bytes.size());
    size_ += aligned;
}

std::span<const std::byte> RoutingEntry::find_attribute(std::size_t begin, std::uint16_t number) const {
    while (begin + sizeof(rtattr) <= payload_.size()) {
        rtattr header{};
        std::memcpy(&header, payload_.data() + begin, sizeof header);
        if (header.rta_len < sizeof header || header.rta_len > payload_.size() - begin) break;
        if (header.rta_type == number) {
            return payload_.subspan(begin + RTA_LENGTH(0), header.rta_len - RTA_LENGTH(0));
        }
        begin += RTA_ALIGN(header.rta_len);
    }
    return {};
}

Result<RoutingSocket> RoutingSocket::open() {
    Fd socket{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)};
    if (!socket) return fail_errno(errno, "open the network configuration");
    return RoutingSocket{std::move(socket)};
}

Result<void> RoutingSocket::change(RoutingRequest request, std::string_view doing) {
    auto done = exchange(request, {});
    if (!done) return fail(std::move(done.error()).at(doing));
    return {};
}

Result<void> RoutingSocket::list(RoutingRequest request,
                                 const std::function<void(const RoutingEntry&)>& each) {
    auto done = exchange(request, each);
    if (!done) return fail(std::move(done.error()).at("list the network configuration"));
    return {};
}

// Changes are asked for with NLM_F_ACK, listings end with NLMSG_DONE; both may end with an error.
Result<void> RoutingSocket::exchange(RoutingRequest& request,
                                     const std::function<void(const RoutingEntry&)>& each) {
    const auto message = request.finished(++sequence_);
    if (::send(socket_.get(), message.data(), message.size(), 0) != static_cast<ssize_t>(message.size())) {
        return fail_errno(errno, "ask the kernel");
    }
    alignas(nlmsghdr) std::array<std::byte, 32768> buffer;  // what the kernel fills at most
    while (true) {
        const ssize_t received = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
        if (received < 0 && errno == EINTR) continue;
        if (received < 0) return fail_errno(errno, "hear from the kernel");
        auto left = static_cast<unsigned>(received);
        for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
             header = NLMSG_NEXT(header, left)) {
            if (header->nlmsg_seq != sequence_) continue;  // the rest of an exchange that failed
            if (header->nlmsg_type == NLMSG_DONE) return {};
            const std::span payload{static_cast<const std::byte*>(NLMSG_DATA(header)),
                                    NLMSG_PAYLOAD(header, 0)};
            if (header->nlmsg_type != NLMSG_ERROR) {
                if (each) each(RoutingEntry{payload});
                continue;
            }
            if (payload.size() < sizeof(nlmsgerr)) return fail(Errc::corrupt, "the kernel's answer is cut");
            nlmsgerr answer{};
            std::memcpy(&answer, payload.data(), sizeof answer);
            if (answer.error == 0) return {};
            return fail_errno(-answer.error, "the kernel refuses");
        }
    }
}

}  // namespace noid::agent
