#include "privileged/message.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

namespace noid::privileged {

Writer& Writer::number(std::uint64_t value) {
    std::array<char, sizeof value> bytes{};
    std::memcpy(bytes.data(), &value, sizeof value);
    bytes_.append(bytes.data(), bytes.size());
    return *this;
}

Writer& Writer::text(std::string_view value) {
    number(value.size());
    bytes_.append(value);
    return *this;
}

void Reader::refuse() noexcept {
    ok_ = false;
    rest_ = {};
}

std::uint64_t Reader::number() {
    return number_up_to(std::numeric_limits<std::uint64_t>::max());
}

std::uint64_t Reader::number_up_to(std::uint64_t limit) {
    std::uint64_t value = 0;
    if (rest_.size() < sizeof value) {
        refuse();
        return 0;
    }
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_.remove_prefix(sizeof value);
    if (value <= limit) return value;
    refuse();
    return 0;
}

std::string Reader::text(std::size_t limit, bool (*allowed)(char)) {
    const auto size = number_up_to(limit);
    const auto value = rest_.substr(0, size);
    if (value.size() != size || !std::ranges::all_of(value, allowed)) {
        refuse();
        return {};
    }
    rest_.remove_prefix(size);
    return std::string{value};
}

Result<void> send_packet(const Fd& socket, std::string_view bytes, std::span<const int> descriptors) {
    if (bytes.size() > max_packet_bytes || descriptors.size() > max_packet_descriptors)
        return fail(Errc::too_large, "too much for one request");
    iovec content{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(max_packet_descriptors * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
    }
    ssize_t sent = 0;
    do sent = ::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent == static_cast<ssize_t>(bytes.size())) return {};
    return fail(Errc::unavailable, "the server's privileged part has ended");
}

Result<Packet> receive_packet(const Fd& socket) {
    Packet packet;
    packet.bytes.resize(max_packet_bytes);
    iovec content{packet.bytes.data(), packet.bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(max_packet_descriptors * sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = 0;
    do got = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got <= 0) return fail(Errc::unavailable, "the other end has closed");
    packet.bytes.resize(static_cast<std::size_t>(got));
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int descriptor = -1;
            std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
            packet.descriptors.emplace_back(descriptor);
        }
    }
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
        return fail(Errc::invalid, "a packet has more bytes or descriptors than it may");
    return packet;
}

}  // namespace noid::privileged
