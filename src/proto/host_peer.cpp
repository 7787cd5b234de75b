#include "proto/host_peer.hpp"

#include <algorithm>

namespace noid::proto {
namespace {

// What one session may send before the next has its turn.
constexpr std::size_t turn = 2 * max_payload;

Errc errc_from_guest(std::uint8_t code) noexcept {
    return code <= static_cast<std::uint8_t>(Errc::internal) ? static_cast<Errc>(code) : Errc::internal;
}

}  // namespace

void HostPeer::begin(std::uint64_t nonce, std::uint32_t epoch, bool new_transport) {
    nonce_ = nonce;
    epoch_ = epoch;
    if (new_transport)
        reader_.restart();
    else
        reader_.seek();
    reader_.expect(nonce);
    state_ = State::greeting;
    greeting_.clear();
    add_hello();
}

void HostPeer::add_hello() {
    append_frame(greeting_, {.type = FrameType::hello, .epoch = epoch_, .id = nonce_}, encode(Hello{}));
}

void HostPeer::repeat_hello() {
    if (state_ != State::greeting) return;
    greeting_.append(max_frame, '\0');
    add_hello();
}

void HostPeer::disconnected() {
    state_ = State::idle;
    greeting_.clear();
}

Result<void> HostPeer::received(std::size_t count) {
    reader_.commit(count);
    while (true) {
        const auto frame = reader_.next();
        if (!frame) return fail(frame.error());
        if (!*frame) return {};
        if (auto handled = receive(**frame); !handled) return handled;
    }
}

Result<void> HostPeer::receive(const Frame& frame) {
    const FrameHeader& header = frame.header;
    if (header.type == FrameType::hello_ack) {
        // A hello that was repeated is answered twice.
        if (state_ != State::greeting) return {};
        if (header.epoch != epoch_) return fail(Errc::corrupt, "a handshake with another epoch");
        auto info = decode<AgentInfo>(frame.payload);
        if (!info) return fail(info.error());
        if (info->protocol != protocol_version)
            return fail(Errc::unsupported, "the guest's agent speaks protocol " +
                                               std::to_string(info->protocol) + ", this server " +
                                               std::to_string(protocol_version));
        state_ = State::established;
        for (auto& [id, pending] : requests_) pending.sent = false;
        new_requests_ = !requests_.empty();
        for (const auto& [id, session] : sessions_) session->reconnected();
        handler_.handshaken(std::move(*info));
        return {};
    }
    if (state_ != State::established) return fail(Errc::corrupt, "a frame before the handshake");
    switch (header.type) {
        case FrameType::resync:
            handler_.resync();
            return {};
        case FrameType::reply: {
            auto reply = decode<Reply>(frame.payload);
            if (!reply) return fail(reply.error());
            if (requests_.erase(header.id) > 0) handler_.replied(header.id, std::move(*reply));
            return {};
        }
        case FrameType::data:
        case FrameType::ack:
        case FrameType::resumed:
        case FrameType::gone:
            break;
        default:
            return fail(Errc::corrupt, "a frame that only a host sends");
    }
    // Frames for a session that was just left are on their way for a while.
    const auto session = find(SessionId{header.id});
    if (!session) return {};
    if (header.type == FrameType::data) return session->receive(header.stream, header.offset, frame.payload);
    if (header.type == FrameType::ack) return session->acknowledged(header.stream, header.offset);
    if (header.type == FrameType::resumed) {
        const auto offsets = decode<ResumedOffsets>(frame.payload);
        if (!offsets) return fail(offsets.error());
        return session->resumed(header.offset, *offsets);
    }
    auto failure = decode<Failure>(frame.payload);
    if (!failure) return fail(failure.error());
    session->gone(Error{errc_from_guest(failure->errc), std::move(failure->message)});
    return {};
}

void HostPeer::request(std::uint64_t id, std::string encoded) {
    requests_.emplace(id, Pending{std::move(encoded)});
    new_requests_ = true;
}

void HostPeer::add(std::shared_ptr<HostSession> session) {
    const SessionId id = session->id();
    sessions_.insert_or_assign(id, std::move(session));
    wants_to_send(id);
}

void HostPeer::remove(SessionId id) {
    sessions_.erase(id);
    std::erase(waiting_, id);
}

std::shared_ptr<HostSession> HostPeer::find(SessionId id) const {
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? nullptr : found->second;
}

void HostPeer::wants_to_send(SessionId id) {
    if (std::ranges::find(waiting_, id) == waiting_.end()) waiting_.push_back(id);
}

void HostPeer::gather(std::string& out, std::size_t budget) {
    const std::size_t limit = out.size() + budget;
    out += greeting_;
    greeting_.clear();
    if (state_ != State::established) return;
    if (std::exchange(new_requests_, false)) {
        for (auto& [id, pending] : requests_) {
            if (std::exchange(pending.sent, true)) continue;
            append_frame(out, {.type = FrameType::request, .epoch = epoch_, .id = id}, pending.encoded);
        }
    }
    while (!waiting_.empty() && out.size() < limit) {
        const SessionId id = waiting_.front();
        waiting_.pop_front();
        const auto session = find(id);
        if (session && session->gather(out, epoch_, std::min(turn, limit - out.size()))) wants_to_send(id);
    }
}

}  // namespace noid::proto
