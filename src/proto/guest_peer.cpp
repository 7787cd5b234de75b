#include "proto/guest_peer.hpp"

#include <algorithm>

namespace noid::proto {
namespace {

// What one session may send before the next has its turn.
constexpr std::size_t turn = 2 * max_payload;

}  // namespace

void GuestPeer::add_small(FrameType type, std::uint64_t id, std::uint64_t offset, std::string_view payload) {
    append_frame(small_, {.type = type, .epoch = epoch_, .id = id, .offset = offset}, payload);
}

void GuestPeer::hello(const Frame& frame) {
    // The host repeats a hello that was not answered soon; both may have arrived.
    const bool repeated = connected_ && !talked_ && frame.header.id == nonce_ && frame.header.epoch == epoch_;
    if (!repeated) {
        disconnected();
        epoch_ = frame.header.epoch;
        nonce_ = frame.header.id;
        connected_ = true;
    }
    add_small(FrameType::hello_ack, nonce_, 0, encode(handler_.info()));
}

Result<void> GuestPeer::receive(const Frame& frame) {
    const FrameHeader& header = frame.header;
    if (header.type == FrameType::hello) {
        // Its protocol version is the host's to judge: a later one may add to the payload.
        hello(frame);
        return {};
    }
    if (!connected_) return {};
    talked_ = true;
    const SessionId id{header.id};
    switch (header.type) {
        case FrameType::open: {
            if (const auto session = handler_.open(id); !session)
                gone(id, {static_cast<std::uint8_t>(session.error().code), session.error().what});
            return {};
        }
        case FrameType::data:
        case FrameType::ack:
        case FrameType::resume:
            break;
        case FrameType::request: {
            auto request = decode<Request>(frame.payload);
            if (!request) return fail(request.error());
            handler_.handle(header.id, std::move(*request));
            return {};
        }
        default:
            return fail(Errc::corrupt, "a frame that only a guest sends");
    }

    GuestSession* const session = handler_.find(id);
    if (!session) {
        gone(id, {static_cast<std::uint8_t>(Errc::not_found), "the guest has no such session"});
        return {};
    }
    if (header.type == FrameType::data) return session->receive(header.stream, header.offset, frame.payload);
    if (header.type == FrameType::ack) return session->acknowledged(header.stream, header.offset);
    const auto has = decode<ResumeOffsets>(frame.payload);
    if (!has) return fail(has.error());
    if (const auto resumed = session->resume(*has))
        add_small(FrameType::resumed, header.id, header.offset, encode(*resumed));
    else
        gone(id, {static_cast<std::uint8_t>(resumed.error().code), resumed.error().what});
    return {};
}

void GuestPeer::disconnected() {
    const bool was_connected = std::exchange(connected_, false);
    talked_ = false;
    small_.clear();
    if (was_connected) handler_.host_lost();
}

void GuestPeer::out_of_step() {
    // Padding between two hellos is no reason to ask for a third.
    const bool ask = connected_ && talked_;
    disconnected();
    if (ask) add_small(FrameType::resync, 0, 0, {});
}

void GuestPeer::reply(std::uint64_t request, const Reply& message) {
    if (connected_) add_small(FrameType::reply, request, 0, encode(message));
}

void GuestPeer::gone(SessionId id, const Failure& why) {
    if (connected_) add_small(FrameType::gone, id.value, 0, encode(why));
}

void GuestPeer::wants_to_send(GuestSession& session) {
    if (std::ranges::find(waiting_, &session) == waiting_.end()) waiting_.push_back(&session);
}

void GuestPeer::forget(const GuestSession& session) {
    std::erase(waiting_, &session);
}

void GuestPeer::gather(std::string& out, std::size_t budget) {
    const std::size_t limit = out.size() + budget;
    out += small_;
    small_.clear();
    if (!connected_) return;
    while (!waiting_.empty() && out.size() < limit) {
        GuestSession* const session = waiting_.front();
        waiting_.pop_front();
        if (session->gather(out, epoch_, std::min(turn, limit - out.size()))) waiting_.push_back(session);
    }
}

}  // namespace noid::proto
